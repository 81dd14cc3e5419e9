"""The record of ordered images, and the watch of the runtime."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec import structs

from pantala_peer.containerd.watch import RepairNote
from pantala_peer.events import ImagesOrdered, PeerEvents
from pantala_peer.images.errors import RuntimeUnavailableError
from pantala_peer.images.helper import RuntimeHelper
from pantala_peer.images.ledger import Ledger, LedgerFile, OrderChanges
from pantala_peer.images.runtime import RuntimeWatch
from pantala_peer.mirror.request import ProbeResult
from pantala_peer.sync.supernodes import SupernodeSessions
from pantala_protocol import task_id
from pantala_protocol.images import (
    Depth,
    ImageBlob,
    NodeOrder,
    NodeOrders,
    PullOrder,
    PullPhase,
    PullState,
    RuntimeState,
)
from pantala_protocol.runtime import ImageFilesystem, MirrorStatus, PinningStatus, RuntimeStatus, RuntimeVersion
from tests.support.eventually import eventually

DIGEST = "sha256:" + "a" * 64
WEB = NodeOrder("ns/web", f"r/web:1@{DIGEST}", PullOrder("run"))
DB = NodeOrder("ns/db", f"r/db@{DIGEST}", PullOrder("run"))


def orders(*pulls: NodeOrder) -> NodeOrders:
    return NodeOrders(1, pulls)


def with_web(phase: PullPhase) -> Ledger:
    ledger = Ledger()
    ledger.apply(orders(WEB), 10)
    {
        PullPhase.PULLING: lambda: None,
        PullPhase.READY: lambda: ledger.ready(WEB.key, 20),
        PullPhase.FAILED: lambda: ledger.failed(WEB.key, "NotFound", "no", 20),
        PullPhase.GONE: lambda: ledger.gone(WEB.key, 20),
    }[phase]()
    return ledger


def test_new_orders_start_and_missing_ones_end() -> None:
    ledger = Ledger()
    assert OrderChanges(["ns/web", "ns/db"], []) == ledger.apply(orders(WEB, DB), 10)
    assert OrderChanges([], ["ns/db"]) == ledger.apply(orders(WEB), 11)
    assert {"ns/web": PullState(PullPhase.PULLING, 10, "run", 1)} == ledger.states()


@pytest.mark.parametrize("phase", [each for each in PullPhase if each is not PullPhase.UNKNOWN])
def test_f13_an_unchanged_order_stays(phase: PullPhase) -> None:
    ledger = with_web(phase)
    before = ledger.entries["ns/web"]
    unchanged = structs.replace(orders(DB), unchanged=("ns/web", "ns/never"))
    assert OrderChanges(["ns/db"], []) == ledger.apply(unchanged, 30)
    assert before == ledger.entries["ns/web"]
    assert OrderChanges([], ["ns/web"]) == ledger.apply(orders(DB), 31)


def test_an_order_is_carried_out_once_whatever_its_result() -> None:
    for phase in set(PullPhase) - {PullPhase.UNKNOWN}:
        ledger = with_web(phase)
        state = ledger.states()["ns/web"]
        assert OrderChanges([], []) == ledger.apply(orders(WEB), 30)
        assert phase is state.phase
        changed = structs.replace(WEB, pin=True, order=structs.replace(WEB.order, timeout=1))
        assert OrderChanges([], []) == ledger.apply(orders(changed), 30), "another timeout or pin is not a new order"
        assert ledger.entries["ns/web"].order.pin
        assert state == ledger.states()["ns/web"]


def test_another_number_run_image_or_depth_is_a_new_order() -> None:
    for changed in (
        structs.replace(WEB, order=PullOrder("run", 2)),
        structs.replace(WEB, order=PullOrder("other")),
        structs.replace(WEB, image=f"r/web:1@sha256:{'b' * 64}"),
        structs.replace(WEB, depth=Depth.PEER),
    ):
        ledger = with_web(PullPhase.FAILED)
        assert OrderChanges(["ns/web"], []) == ledger.apply(orders(changed), 30)
        expected = PullState(PullPhase.PULLING, 30, changed.order.run, changed.order.number)
        assert expected == ledger.states()["ns/web"]


def test_times_of_removal_are_kept_for_the_same_image_only() -> None:
    ledger = with_web(PullPhase.GONE)
    ledger.apply(orders(structs.replace(WEB, order=PullOrder("run", 2))), 30)
    ledger.ready("ns/web", 31)
    ledger.gone("ns/web", 40)
    assert (20, 40) == ledger.states()["ns/web"].gone
    ledger.apply(orders(structs.replace(WEB, image=f"r/web@sha256:{'b' * 64}")), 50)
    assert () == ledger.states()["ns/web"].gone


def test_a_phase_keeps_the_time_of_its_start() -> None:
    ledger = with_web(PullPhase.PULLING)
    assert ledger.fetched("ns/web", 7)
    assert not ledger.fetched("ns/web", 7)
    assert 10 == ledger.states()["ns/web"].since
    ledger.failed("ns/web", "NotFound", "no", 20)
    expected = PullState(PullPhase.FAILED, 20, "run", 1, fetched=7, reason="NotFound", message="no")
    assert expected == ledger.states()["ns/web"]


def test_blobs_of_images_of_depth_peer_are_kept() -> None:
    blob = ImageBlob(DIGEST, 7)
    ledger = Ledger()
    ledger.apply(orders(structs.replace(WEB, blobs=(blob,)), structs.replace(DB, depth=Depth.PEER, blobs=(blob,))), 1)
    assert {task_id.of_blob(DIGEST)} == ledger.kept_tasks()
    ledger.apply(orders(WEB), 2)
    assert set() == ledger.kept_tasks()


def test_a_new_process_continues_with_the_ledger_of_the_last_one(tmp_path: Path) -> None:
    file = LedgerFile(tmp_path / "images.json")
    assert {} == file.read().entries
    ledger = with_web(PullPhase.READY)
    ledger.apply(orders(WEB, DB), 30)
    ledger.pins.add("r/web")
    file.write(ledger.render())
    again = file.read()
    assert (ledger.entries, ledger.pins) == (again.entries, again.pins)
    assert ["ns/db"] == again.unfinished()
    (tmp_path / "images.json").write_bytes(b'{"entries"')
    assert ledger.entries == file.read().entries  # from the copy
    (tmp_path / "images.json.copy").write_bytes(b'{"entries"')
    assert {} == file.read().entries


A, B = ("sha256:" + digit * 64 for digit in "ab")


class Reports(SupernodeSessions):
    def __init__(self) -> None:
        self.sent: list[RuntimeState] = []

    def report_runtime(self, runtime: RuntimeState, *, urgent: bool) -> None:
        self.sent.append(runtime)


class Scene(RuntimeHelper):
    """A helper whose probe the mirror sees as a test wants."""

    def __init__(self, in_force: bool = True, *, config_path: str | None = None, port: int = 65001) -> None:
        super().__init__(None)
        self.config_path = config_path
        self.in_force = in_force
        self.away = False
        self.seen: ProbeResult | None = None
        self.present: frozenset[str] | None = frozenset({A})
        self.probes: list[tuple[str, int]] = []
        self.now = 100.0
        self.free = 64 << 20
        self.pins: bool | None = None
        self.repair: RepairNote | None = None
        self.events = PeerEvents()
        self.reports = Reports()
        self.watch = RuntimeWatch(
            self,
            self.reports,
            "node-1",
            events=self.events,
            port=lambda: port,
            problem=lambda: "set --mirror-listen",
            last_probe=lambda: self.seen,
            repair=lambda: self.repair,
            clock=lambda: self.now,
        )

    async def reported(self, times: int) -> None:
        await eventually(lambda: len(self.reports.sent) >= times)

    async def status(self) -> RuntimeStatus:
        if self.away:
            raise RuntimeUnavailableError("the helper does not answer")
        version, folder = RuntimeVersion("containerd", "1.6.20"), MirrorStatus(self.config_path)
        return RuntimeStatus(version, folder, PinningStatus(self.pins), ImageFilesystem(self.free))

    async def probe(self, node: str, port: int) -> None:
        self.probes.append((node, port))
        if self.in_force:
            self.seen = ProbeResult(node, self.now)

    async def blobs(self, digests: Sequence[str]) -> frozenset[str] | None:
        return self.present


async def test_a_probe_by_our_file_shows_that_it_is_in_force() -> None:
    scene = Scene()
    scene.free = (64 << 20) * 2 - 1  # reported in large steps
    expected = RuntimeState("containerd", "1.6.20", mirror=True, disk_free=64 << 20)
    assert expected == await scene.watch.look()
    assert [("node-1", 65001)] == scene.probes


@pytest.mark.parametrize(
    ("folder", "advice"),
    [("", ['config_path = "/etc/containerd/certs.d"']), ("/etc/other", ["reads /etc/other", "pantala-peer configure"])],
)
async def test_a_folder_that_is_not_ours_is_named(folder: str, advice: list[str]) -> None:
    state = await Scene(False, config_path=folder).watch.look()
    assert state.mirror is False
    assert all(text in state.message for text in advice)


async def test_an_earlier_or_foreign_probe_proves_nothing() -> None:
    scene = Scene(False)
    scene.seen = ProbeResult("node-1", at=99.0)
    assert (await scene.watch.look()).mirror is False
    scene.seen = ProbeResult("node-2", at=101.0)
    assert (await scene.watch.look()).mirror is False


async def test_a_repair_of_containerds_files_is_reported() -> None:
    scene = Scene()
    scene.repair = RepairNote(0, ("docker.io",))
    state = await scene.watch.look()
    assert (True, str(scene.repair)) == (state.mirror, state.message)
    scene.repair = RepairNote(0, fault="the disk is read-only")
    state = await scene.watch.look()
    assert (False, str(scene.repair)) == (state.mirror, state.message)
    scene.in_force = False  # the fault says more than that containerd does not ask the mirror
    scene.seen = None
    state = await scene.watch.look()
    assert (False, str(scene.repair)) == (state.mirror, state.message)


@pytest.mark.virtual_time
async def test_a_repair_is_reported_within_seconds() -> None:
    scene = Scene()
    running = asyncio.create_task(scene.watch.run())
    try:
        await scene.reported(1)
        scene.repair = RepairNote(0, ("docker.io",))
        begun = asyncio.get_running_loop().time()
        await scene.reported(2)
        assert asyncio.get_running_loop().time() - begun <= 11
        await asyncio.sleep(600)
        assert ["", str(scene.repair)] == list(dict.fromkeys(state.message for state in scene.reports.sent))
    finally:
        running.cancel()


async def test_a_peer_without_a_mirror_does_not_probe() -> None:
    scene = Scene(port=0)
    assert "--mirror-listen" in (await scene.watch.look()).message
    assert [] == scene.probes


async def test_without_a_helper_the_runtime_is_not_known() -> None:
    scene = Scene()
    scene.away = True
    assert RuntimeState(message="the helper does not answer") == await scene.watch.look()


async def test_the_blobs_of_a_survey_are_reported() -> None:
    scene = Scene()
    scene.events.emit(ImagesOrdered(NodeOrders(1, (), (A, B))))
    assert {A: True, B: False} == (await scene.watch.look()).blobs
    scene.present = None
    assert {} == (await scene.watch.look()).blobs


async def test_the_result_of_the_first_pin_is_reported_at_once() -> None:
    scene = Scene()
    running = asyncio.create_task(scene.watch.run())
    try:
        await scene.reported(1)
        scene.pins = False
        scene.watch.pinned(honoured=False)
        await scene.reported(2)
        assert [None, False] == [state.pins for state in scene.reports.sent]
        scene.watch.pinned(honoured=False)
        await asyncio.sleep(0.05)
        assert 2 == len(scene.reports.sent)
    finally:
        running.cancel()
