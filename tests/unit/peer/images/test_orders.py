"""Orders with a helper and a cache in memory: each is carried out once, cancelled when withdrawn, and then watched."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import structs

from pantala_peer.events import ImagesOrdered, PeerEvents
from pantala_peer.images.blobs import CachedImages
from pantala_peer.images.errors import OrderError, RuntimeUnavailableError
from pantala_peer.images.helper import RuntimeHelper
from pantala_peer.images.ledger import LedgerFile
from pantala_peer.images.orders import ImageOrders
from pantala_peer.mirror.grants import PullGrants
from pantala_peer.sync.supernodes import SupernodeSessions
from pantala_protocol import task_id
from pantala_protocol.images import Depth, ImageBlob, NodeOrder, NodeOrders, PullOrder, PullPhase, PullState
from pantala_protocol.runtime import PullCredentials, RuntimeImage
from tests.support.eventually import eventually

pytestmark = pytest.mark.virtual_time

DIGEST = "sha256:" + "a" * 64
PINNED = f"docker.io/library/web@{DIGEST}"
WEB = NodeOrder("ns/web", f"web:1@{DIGEST}", PullOrder("run", timeout=5))
URL = "http://127.0.0.1:65001"


class FakeHelper(RuntimeHelper):
    def __init__(self) -> None:
        super().__init__(None)
        self.here: dict[str, RuntimeImage] = {}
        self.pulls: list[tuple[str, int, PullCredentials | None]] = []
        self.running = 0
        self.most = 0
        self.go = asyncio.Event()
        self.go.set()
        self.error: OrderError | None = None
        self.unpinned: list[str] = []

    async def images(self) -> list[RuntimeImage]:
        if self.error is not None:
            raise self.error
        return list(self.here.values())

    async def pull(self, image: str, *, timeout: int, credentials: PullCredentials | None) -> None:
        self.pulls.append((image, timeout, credentials))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.go.wait()
        finally:
            self.running -= 1
        if self.error is not None:
            raise self.error
        self.here[image] = RuntimeImage((), (image,), pinned=False)

    async def name(self, image: str, name: str) -> None:
        self.here[image] = structs.replace(self.here[image], tags=(name,))

    async def pin(self, image: str) -> bool:
        self.here[image] = structs.replace(self.here[image], pinned=True)
        return True

    async def unpin(self, image: str) -> None:
        self.unpinned.append(image)
        if image not in self.here:
            raise OrderError("it is not there", "NotFound")


class FakeCache(CachedImages):
    def __init__(self) -> None:
        self.whole = False
        self.go = asyncio.Event()

    async def fetch(self, order: NodeOrder) -> None:
        await self.go.wait()
        self.whole = True

    def holds(self, order: NodeOrder) -> bool:
        return self.whole

    def bytes(self, order: NodeOrder) -> int:
        return 7 if self.whole else 0


class Reports(SupernodeSessions):
    def __init__(self) -> None:
        self.pulls: dict[str, PullState] = {}
        self.sent: list[tuple[PullPhase, bool]] = []

    def report_pulls(self, pulls: dict[str, PullState], *, urgent: bool) -> None:
        self.pulls = pulls
        if WEB.key in pulls:
            self.sent.append((pulls[WEB.key].phase, urgent))


class Made:
    def __init__(self, folder: Path, *, url: str | None = URL) -> None:
        self.helper, self.cache, self.reports = FakeHelper(), FakeCache(), Reports()
        self.grants = PullGrants(lambda: "once")
        self.events = PeerEvents()
        self.kept: list[set[str]] = []
        self.pinned: list[bool] = []
        self.orders = ImageOrders(
            LedgerFile(folder / "images.json"),
            self.helper,
            self.cache,
            self.grants,
            self.reports,
            mirror_url=lambda: url,
            wall=lambda: 1000.9,
            events=self.events,
            keep=self.kept.append,
            pinned=self.pinned.append,
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Made"]:
        await self.orders.open()
        task = asyncio.create_task(self.orders.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.wait({task})

    def order(self, *pulls: NodeOrder) -> None:
        self.events.emit(ImagesOrdered(NodeOrders(1, pulls)))

    async def reach(self, phase: PullPhase, key: str = WEB.key) -> PullState:
        await eventually(lambda: key in self.reports.pulls and self.reports.pulls[key].phase is phase, within=60)
        return self.reports.pulls[key]


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Made]:
    async with Made(tmp_path).running() as made:
        yield made


async def test_an_image_is_pulled_once_with_a_password_for_the_mirror_alone(it: Made) -> None:
    it.order(WEB)
    state = await it.reach(PullPhase.READY)
    assert PullState(PullPhase.READY, 1000, "run", 1) == state
    assert [(PINNED, 5, PullCredentials("pantala", "once", URL))] == it.helper.pulls
    assert ("docker.io/library/web:1",) == it.helper.here[PINNED].tags
    assert not it.grants.awaits("docker.io/library/web")


async def test_without_a_mirror_the_pull_has_no_password(tmp_path: Path) -> None:
    async with Made(tmp_path, url=None).running() as made:
        made.order(WEB)
        await made.reach(PullPhase.READY)
        assert [(PINNED, 5, None)] == made.helper.pulls


async def test_served_bytes_are_reported_without_urgency(it: Made) -> None:
    it.helper.go.clear()
    it.order(WEB)
    await eventually(lambda: it.grants.awaits("docker.io/library/web"))
    grant = it.grants.find("docker.io/library/web", "Basic cGFudGFsYTpvbmNl")
    assert grant is not None
    grant.bytes = 42
    await eventually(lambda: 42 == it.reports.pulls[WEB.key].fetched)
    assert (PullPhase.PULLING, False) == it.reports.sent[-1]
    grant.bytes = 43
    it.helper.go.set()
    assert 43 == (await it.reach(PullPhase.READY)).fetched
    assert (PullPhase.READY, True) == it.reports.sent[-1]


async def test_another_number_restarts_the_pull_and_a_withdrawn_order_ends_it(it: Made) -> None:
    it.helper.go.clear()
    it.order(WEB)
    await eventually(lambda: it.helper.running == 1)
    it.order(structs.replace(WEB, order=PullOrder("run", 2)))
    await eventually(lambda: len(it.helper.pulls) == 2)
    assert 1 == it.helper.running
    it.order()
    await eventually(lambda: it.helper.running == 0)
    assert {} == it.reports.pulls
    assert not it.grants.awaits("docker.io/library/web")


@pytest.mark.parametrize(
    "error", [OrderError("check its name", "NotFound"), RuntimeUnavailableError("the helper does not answer")]
)
async def test_a_failure_is_reported_with_its_reason_and_not_repeated(it: Made, error: OrderError) -> None:
    it.helper.error = error
    it.order(WEB)
    state = await it.reach(PullPhase.FAILED)
    assert (error.reason, str(error)) == (state.reason, state.message)
    it.helper.error = None
    it.order(WEB)
    await asyncio.sleep(60)
    assert PullPhase.FAILED is it.reports.pulls[WEB.key].phase


@pytest.mark.parametrize("image", ["web:1", "a b@" + DIGEST])
async def test_an_invalid_order_fails_alone(it: Made, image: str) -> None:
    it.order(NodeOrder("ns/bad", image, PullOrder("run"), pin=True), structs.replace(WEB, pin=True))
    assert "InvalidImage" == (await it.reach(PullPhase.FAILED, "ns/bad")).reason
    await eventually(lambda: PINNED in it.helper.here and it.helper.here[PINNED].pinned)


async def test_a_removed_image_is_gone_until_another_order(it: Made) -> None:
    it.order(WEB)
    await it.reach(PullPhase.READY)
    it.helper.error = RuntimeUnavailableError("away")
    await asyncio.sleep(60)
    assert PullPhase.READY is it.reports.pulls[WEB.key].phase, "it is not known whether the image is removed"
    it.helper.error = None
    del it.helper.here[PINNED]
    assert (1000,) == (await it.reach(PullPhase.GONE)).gone
    it.order(structs.replace(WEB, order=PullOrder("run", 2)))
    assert (1000,) == (await it.reach(PullPhase.READY)).gone
    assert 2 == len(it.helper.pulls)


async def test_a_removed_tag_is_restored(it: Made) -> None:
    it.order(WEB)
    await it.reach(PullPhase.READY)
    it.helper.here[PINNED] = structs.replace(it.helper.here[PINNED], tags=())
    await eventually(lambda: it.helper.here[PINNED].tags == ("docker.io/library/web:1",), within=60)


async def test_h5_a_tag_that_another_image_has_by_now_stays_there(it: Made) -> None:
    """Another program has pulled the tag since, so the registry may have moved it."""
    it.order(WEB)
    await it.reach(PullPhase.READY)
    newer = f"docker.io/library/web@sha256:{'b' * 64}"
    it.helper.here[PINNED] = structs.replace(it.helper.here[PINNED], tags=())
    it.helper.here[newer] = RuntimeImage(("docker.io/library/web:1",), (newer,), pinned=False)
    await asyncio.sleep(120)
    assert () == it.helper.here[PINNED].tags


async def test_h5_an_order_that_loses_its_tag_is_not_a_new_order(it: Made) -> None:
    it.order(WEB)
    await it.reach(PullPhase.READY)
    it.order(structs.replace(WEB, image=PINNED))
    assert PullPhase.READY is it.reports.pulls[WEB.key].phase
    it.helper.here[PINNED] = structs.replace(it.helper.here[PINNED], tags=())
    await asyncio.sleep(120)
    assert (1, ()) == (len(it.helper.pulls), it.helper.here[PINNED].tags)


async def test_an_image_is_pinned_as_long_as_any_order_pins_it(it: Made) -> None:
    other = NodeOrder("ns/other", PINNED, PullOrder("run"), pin=True)
    it.order(structs.replace(WEB, pin=True), other)
    await eventually(lambda: PINNED in it.helper.here and it.helper.here[PINNED].pinned)
    await eventually(lambda: {True} == set(it.pinned))
    it.order(WEB, other)
    await asyncio.sleep(60)
    assert [] == it.helper.unpinned
    it.order(WEB)
    await eventually(lambda: it.helper.unpinned == [PINNED])
    await asyncio.sleep(60)
    assert [PINNED] == it.helper.unpinned


async def test_a_new_process_unpins_the_pins_of_the_last_one(tmp_path: Path) -> None:
    async with Made(tmp_path).running() as made:
        made.order(structs.replace(WEB, pin=True))
        await eventually(lambda: made.orders.ledger.pins == {PINNED})
        await made.reach(PullPhase.READY)
        await eventually(lambda: {PINNED} == LedgerFile(tmp_path / "images.json").read().pins)
    async with Made(tmp_path).running() as made:
        await eventually(lambda: WEB.key in made.reports.pulls)
        made.order()
        await eventually(lambda: made.helper.unpinned == [PINNED])


async def test_the_list_of_orders_is_written_when_the_disk_works_again(tmp_path: Path) -> None:
    """No other change of the orders may follow for days."""
    folder = tmp_path / "later"
    async with Made(folder).running() as made:
        made.order(WEB)
        await made.reach(PullPhase.READY)
        await asyncio.sleep(1)
        folder.mkdir()
        await eventually(lambda: LedgerFile(folder / "images.json").read().entries, within=60)


async def test_a_new_process_finishes_the_orders_of_the_last_one(tmp_path: Path) -> None:
    async with Made(tmp_path).running() as made:
        made.helper.go.clear()
        made.order(WEB)
        await eventually(lambda: (tmp_path / "images.json").exists() and made.helper.running == 1)
    async with Made(tmp_path).running() as made:
        await made.reach(PullPhase.READY)
        assert 1 == len(made.helper.pulls)


async def test_at_most_eight_orders_run_at_once(it: Made) -> None:
    it.helper.go.clear()
    it.order(*(NodeOrder(f"ns/{n}", f"r/{n}@{DIGEST}", PullOrder("run")) for n in range(20)))
    await eventually(lambda: it.helper.running == 8)
    it.helper.go.set()
    await eventually(lambda: all(state.phase is PullPhase.READY for state in it.reports.pulls.values()))
    assert 8 == it.helper.most


async def test_an_image_of_depth_peer_is_ready_with_its_blobs_and_gone_without(it: Made) -> None:
    order = structs.replace(WEB, depth=Depth.PEER, blobs=(ImageBlob(DIGEST, 7),))
    it.order(order)
    await asyncio.sleep(3)
    assert PullPhase.PULLING is it.reports.pulls[WEB.key].phase
    it.cache.go.set()
    assert 7 == (await it.reach(PullPhase.READY)).fetched
    assert [set(), {task_id.of_blob(DIGEST)}] == it.kept
    assert [] == it.helper.pulls
    it.cache.whole = False
    await it.reach(PullPhase.GONE)


async def test_an_image_of_depth_peer_is_gone_while_the_runtime_does_not_answer(it: Made) -> None:
    cached = NodeOrder("ns/cached", WEB.image, PullOrder("run"), depth=Depth.PEER, blobs=(ImageBlob(DIGEST, 7),))
    it.cache.go.set()
    it.order(WEB, cached)
    await it.reach(PullPhase.READY)
    await it.reach(PullPhase.READY, cached.key)
    it.helper.error = RuntimeUnavailableError("away")
    it.cache.whole = False
    await it.reach(PullPhase.GONE, cached.key)


async def test_an_image_that_cannot_be_pinned_does_not_keep_others_from_it(
    it: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def pin(image: str) -> bool:
        if image == PINNED:
            raise OrderError("it was just removed", "NotFound")
        return await FakeHelper.pin(it.helper, image)

    monkeypatch.setattr(it.helper, "pin", pin)
    other = f"docker.io/library/db@{DIGEST}"
    it.order(structs.replace(WEB, pin=True), NodeOrder("ns/db", other, PullOrder("run"), pin=True))
    await eventually(lambda: other in it.helper.here and it.helper.here[other].pinned, within=60)


async def test_an_order_of_depth_peer_ends_in_time(it: Made) -> None:
    order = structs.replace(WEB, depth=Depth.PEER, order=PullOrder("run", timeout=0), blobs=(ImageBlob(DIGEST, 7),))
    it.order(order)
    assert "Timeout" == (await it.reach(PullPhase.FAILED)).reason
