"""Which blobs are fetched, from where, and which peers receive them."""

from dataclasses import replace

import pytest

from pantala_protocol import task_id
from pantala_protocol.image import ImageReference
from pantala_protocol.images import PullOrder, WantedImage
from pantala_protocol.statement import CDNStatus, Failure, Statement
from pantala_protocol.sync import WantedBlob
from pantala_supernode.images.leases import PRIORITY, BlobLeases, KeptBlob
from pantala_supernode.images.orders import OrderAccounts, StatedImages
from pantala_supernode.registry.credentials import ANONYMOUS, POD_IDENTITY, Keyring, RegistryAccount
from pantala_supernode.registry.endpoint import RegistryEndpoints
from pantala_supernode.registry.permissions import RegistryPermissions
from pantala_supernode.swarm.download import DfgetTaskManager
from pantala_supernode.swarm.limits import SchedulingPolicy
from pantala_supernode.swarm.peer import PeerManager, SwarmPeer
from pantala_supernode.swarm.progress import ProgressManager
from pantala_supernode.swarm.scheduler import Managers, SchedulerManager
from pantala_supernode.tasks.copy import Copy, FileSource
from pantala_supernode.tasks.manager import TaskManager
from pantala_supernode.tasks.shares import IMAGES
from pantala_supernode.tasks.task import Lease, Task

DIGEST = "sha256:" + "a" * 64
NAME = task_id.of_blob(DIGEST)
WANTED, OTHER = (
    WantedBlob("registry.example", "team/app", DIGEST, credential=f"Bearer {name}") for name in ("one", "two")
)
URL = f"https://registry.example/v2/team/app/blobs/{DIGEST}"
ONE, TWO = (
    FileSource(URL, {"Authorization": f"Bearer {name}"}, DIGEST, tenants=frozenset({IMAGES})) for name in ("one", "two")
)
KEPT = 1000.0


class Stage:
    """A supernode without a CDN, a registry or a network."""

    def __init__(self, *, stated: bool = True) -> None:
        self.now = 100.0
        self.unknown = True
        self.asked: list[FileSource] = []
        self.reassigned: list[str] = []
        self.leases: list[Lease] = []
        self.images = StatedImages()
        self.choice: tuple[RegistryAccount, ...] = (ANONYMOUS,)
        progress = ProgressManager()
        scheduler = SchedulerManager(progress, policy=SchedulingPolicy(), chance=None, lookup=lambda _: None)  # type: ignore[arg-type]
        self.managers = Managers(TaskManager(grace=5), DfgetTaskManager(), PeerManager(), progress, scheduler)
        for name in ("n1", "n2"):
            self.managers.peers.register(SwarmPeer(name, "10.0.0.1", 1, b""))
        self.blobs = BlobLeases(
            self,
            self.managers,
            self.images,
            OrderAccounts(self),  # type: ignore[arg-type]
            RegistryEndpoints(only=["registry.example"]),
            RegistryPermissions(b"key", lambda: self.now),
            self,  # type: ignore[arg-type]
            reassign=self.reassigned.extend,
            unknown=lambda _: self.unknown,
            seconds=KEPT,
            clock=lambda: self.now,
        )
        if stated:
            self.state()

    def of(self, _image: ImageReference, _keyring: Keyring) -> tuple[RegistryAccount, ...]:
        """The accounts of an order."""
        return self.choice

    def state(self) -> None:
        self.managers.tasks.state(Statement(1), now=self.now)
        self.blobs.on_statement()

    @property
    def task(self) -> Task:
        return self.managers.tasks.known(NAME)

    def lease(self, task_id: str, lease: Lease) -> None:
        self.leases.append(lease)
        self.managers.tasks.lease(task_id, lease)
        self.shows(status=CDNStatus.WAITING, failure=None)

    def end_lease(self, task_id: str, *, keep: bool = False) -> None:
        assert keep
        self.managers.tasks.end_lease(task_id, keep=keep)

    def ask(self, copy: Copy, origin: FileSource, tell: object) -> None:
        assert copy.cached
        self.asked.append(origin)

    def say(self, peer: str, *wanted: WantedBlob) -> None:
        """A peer reports the blobs that it waits for."""
        self.blobs.take(peer, {task_id.of_blob(each.digest): each for each in wanted})

    def shows(self, **copy: object) -> None:
        self.managers.tasks.update(NAME, replace(self.task.copy, **copy))  # type: ignore[arg-type]
        self.blobs.on_task_changed(NAME)

    def arrives(self, *, whole: bool = False) -> None:
        self.shows(cached=1, generation="g", status=CDNStatus.SUCCESS if whole else CDNStatus.RUNNING, failure=None)

    def fails(self) -> None:
        self.shows(status=CDNStatus.FAILED, failure=Failure("SourceUnauthorized", "no", final=True))


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_blob_is_leased_with_the_peers_credentials_and_served_once_pieces_arrive(stage: Stage) -> None:
    stage.say("n1", WANTED)
    (lease,) = stage.leases
    assert replace(ONE, attempt="blob:1", priority=PRIORITY) == lease.source
    assert set() == stage.task.fetchers
    stage.arrives()
    assert ({"n1"}, {"n1"}, []) == (stage.task.fetchers, stage.task.keepers, stage.asked)
    assert "n1" in stage.reassigned
    stage.say("n1", WANTED)
    assert 1 == len(stage.leases)


def test_demand_waits_for_the_first_statement() -> None:
    stage = Stage(stated=False)
    stage.say("n1", WANTED)
    assert [] == stage.leases
    stage.state()
    assert 1 == len(stage.leases)


@pytest.mark.parametrize(
    "wanted",
    [
        WantedBlob("other.example", "team/app", DIGEST),
        WantedBlob("registry.example", "../app", DIGEST),
        WantedBlob("registry.example", "team/app", DIGEST, order="ns/none"),
    ],
)
def test_invalid_demand_is_ignored(stage: Stage, wanted: WantedBlob) -> None:
    stage.say("n1", wanted)
    stage.blobs.take("n2", {"0" * 64: WANTED})
    assert [] == stage.leases


def test_a_refused_credential_is_replaced_by_another_peers(stage: Stage) -> None:
    stage.say("n1", WANTED)
    stage.say("n2", OTHER)
    assert 1 == len(stage.leases)
    stage.fails()
    assert "Bearer two" == stage.leases[-1].source.headers["Authorization"]  # type: ignore[union-attr]
    assert stage.leases[0].attempt != stage.leases[-1].attempt
    stage.arrives()
    assert {"n2"} == stage.task.fetchers
    stage.say("n1", WANTED)
    assert ([], {"n2"}) == (stage.asked, stage.task.fetchers)


def test_a_renewed_credential_is_used(stage: Stage) -> None:
    stage.say("n1", WANTED)
    stage.say("n1", OTHER)
    assert "Bearer two" == stage.leases[-1].source.headers["Authorization"]  # type: ignore[union-attr]


def test_new_demand_after_a_failure_tries_again(stage: Stage) -> None:
    stage.say("n1", WANTED)
    stage.fails()
    stage.say("n1", WANTED)
    assert 1 == len(stage.leases)  # the same pull still waits
    stage.say("n1")
    stage.say("n1", WANTED)
    assert 2 == len({lease.attempt for lease in stage.leases})


def test_another_credential_needs_a_proof_which_counts_for_a_while(stage: Stage) -> None:
    stage.say("n1", WANTED)
    stage.arrives()
    stage.say("n2", OTHER)
    assert ([TWO], {"n1"}) == (stage.asked, stage.task.fetchers)
    stage.blobs.on_proof(NAME, TWO, True)
    assert {"n1", "n2"} == stage.task.fetchers
    stage.say("n2")
    assert ({"n1"}, {"n1", "n2"}) == (stage.task.fetchers, stage.task.keepers)
    stage.now += 299
    stage.say("n2", OTHER)
    assert [TWO] == stage.asked
    stage.say("n2")
    stage.now += 2
    stage.say("n2", OTHER)
    assert [TWO, TWO] == stage.asked


def test_a_peer_without_a_proof_is_not_admitted_and_not_checked_again(stage: Stage) -> None:
    stage.say("n1", WANTED)
    stage.arrives()
    stage.say("n2", OTHER)
    stage.blobs.on_proof(NAME, TWO, False)
    stage.say("n2", OTHER)
    stage.arrives(whole=True)
    assert ([TWO], {"n1"}) == (stage.asked, stage.task.keepers)


def test_an_existing_copy_needs_a_proof_of_the_first_peer_too(stage: Stage) -> None:
    stage.unknown = False
    stage.say("n1", WANTED)
    stage.arrives(whole=True)
    assert ([ONE], set()) == (stage.asked, stage.task.fetchers)
    stage.blobs.on_proof(NAME, ONE, True)
    assert {"n1"} == stage.task.fetchers


def test_a_source_that_replaces_a_running_one_needs_a_proof(stage: Stage) -> None:
    """Otherwise bytes of the former source would be a proof for the new one."""
    stage.say("n1", WANTED)
    stage.say("n2", OTHER)
    stage.say("n1")
    stage.say("n2", OTHER)
    stage.arrives()
    assert ([TWO], set()) == (stage.asked, stage.task.fetchers)


def test_a_blob_is_kept_after_its_demand_but_an_incomplete_one_only_for_a_minute(stage: Stage) -> None:
    stage.say("n1", WANTED)
    stage.arrives()
    stage.say("n1")
    assert stage.task.lease is not None
    assert stage.now + 60 == stage.task.lease.until
    stage.arrives(whole=True)
    assert stage.now + KEPT == stage.task.lease.until
    stage.now += KEPT
    changed = stage.managers.tasks.expire(now=stage.now)
    assert (frozenset({NAME}), frozenset({"n1"})) == (changed.retired, changed.peers)
    assert frozenset() == stage.managers.tasks.kept_by("n1")


def test_a_lease_lasts_while_a_peer_waits(stage: Stage) -> None:
    stage.say("n1", WANTED)
    for _ in range(3):
        stage.now += 50
        stage.blobs.tick()
        assert set() == stage.managers.tasks.expire(now=stage.now).retired
    stage.managers.peers.update("n1", connected=False)
    stage.blobs.tick()
    stage.now += 61
    assert {NAME} == stage.managers.tasks.expire(now=stage.now).retired


def test_a_peer_that_lost_its_pieces_keeps_none(stage: Stage) -> None:
    stage.say("n1", WANTED)
    stage.arrives()
    stage.blobs.take_inventory("n1", [])
    assert {"n1"} == stage.task.keepers  # it waits for it
    stage.say("n1")
    stage.blobs.take_inventory("n1", [NAME])
    assert {"n1"} == stage.task.keepers
    stage.blobs.take_inventory("n1", [])
    assert set() == stage.task.keepers


def test_an_idle_blob_is_released_for_room(stage: Stage) -> None:
    stage.say("n1", WANTED)
    stage.arrives(whole=True)
    assert not stage.blobs.release_idle()
    stage.say("n1")
    assert stage.blobs.release_idle()
    assert None is stage.managers.tasks.get(NAME)
    assert not stage.blobs.release_idle()


def restored(*, idle: float = 10.0) -> Stage:
    """Another process's stage, on the same volume, which is not read yet."""
    stage = Stage(stated=False)
    stage.unknown = False
    stage.blobs.restore([KeptBlob(DIGEST, "g", idle)])
    return stage


def test_whole_blobs_are_recorded_for_the_next_process(stage: Stage) -> None:
    stage.say("n1", WANTED)
    stage.arrives()
    assert () == stage.blobs.kept()
    stage.arrives(whole=True)
    stage.now += 30
    assert (KeptBlob(DIGEST, "g", 0.0),) == stage.blobs.kept()
    stage.say("n1")
    stage.now += 40
    assert (KeptBlob(DIGEST, "g", 40.0),) == stage.blobs.kept()
    stage.managers.tasks.expire(now=stage.now + KEPT)
    assert () == stage.blobs.kept()


def test_a_restored_blob_keeps_its_time_and_is_not_fetched() -> None:
    stage = restored(idle=400.0)
    assert [None] == [lease.source for lease in stage.leases]
    assert stage.task.suspended
    assert (KeptBlob(DIGEST, "g", 400.0),) == stage.blobs.kept()
    stage.state()
    stage.arrives(whole=True)
    stage.blobs.on_volume_read()
    stage.now += 599
    stage.blobs.tick()
    assert frozenset() == stage.managers.tasks.expire(now=stage.now).retired
    assert (KeptBlob(DIGEST, "g", 999.0),) == stage.blobs.kept()
    stage.now += 1
    assert {NAME} == stage.managers.tasks.expire(now=stage.now).retired


def test_an_expired_blob_is_not_restored() -> None:
    assert None is restored(idle=KEPT).managers.tasks.get(NAME)
    assert 100.0 + KEPT == restored(idle=-5.0).task.lease.until  # type: ignore[union-attr]


def test_a_peer_with_the_generation_of_a_restored_blob_keeps_its_pieces() -> None:
    stage = restored()
    stage.blobs.take_holdings("n1", {NAME: ("g", 1), "0" * 64: ("g", 1)})
    stage.blobs.take_holdings("n2", {NAME: ("other", 1)})
    assert ({"n1"}, set()) == (stage.task.keepers, stage.task.fetchers)
    stage.blobs.take_inventory("n1", [])
    assert set() == stage.task.keepers


def test_holdings_count_for_restored_blobs_only(stage: Stage) -> None:
    stage.say("n1", WANTED)
    stage.arrives(whole=True)
    stage.blobs.take_holdings("n2", {NAME: ("g", 1)})
    assert {"n1"} == stage.task.keepers


def test_a_restored_blob_needs_a_proof() -> None:
    stage = restored()
    stage.blobs.take_holdings("n1", {NAME: ("g", 1)})
    stage.state()
    stage.say("n1", WANTED)
    assert not stage.task.suspended
    stage.arrives(whole=True)
    assert ([ONE], set()) == (stage.asked, stage.task.fetchers)
    stage.blobs.on_proof(NAME, ONE, False)
    assert set() == stage.task.fetchers
    stage.say("n2", OTHER)
    stage.blobs.on_proof(NAME, TWO, True)
    assert {"n2"} == stage.task.fetchers


def test_a_restored_blob_that_the_volume_lost_is_released_without_demand() -> None:
    stage = restored()
    stage.blobs.on_volume_read()
    assert None is stage.managers.tasks.get(NAME)
    stage = restored()
    stage.state()
    stage.say("n1", WANTED)
    stage.blobs.on_volume_read()
    assert (URL, ()) == (stage.task.lease.source.url, stage.blobs.kept())  # type: ignore[union-attr]


def test_restored_blobs_are_released_for_room_too() -> None:
    stage = restored()
    assert stage.blobs.release_idle()
    assert None is stage.managers.tasks.get(NAME)


def test_only_an_order_lets_a_blob_be_read_with_the_identity_of_the_pod(stage: Stage) -> None:
    image = f"registry.example/team/app:1@{DIGEST}"
    wanted = WantedImage("ns/web", image, orders={"n1": PullOrder("run", 1, timeout=60)})
    stage.images.take(Statement(2, images=(wanted,)))
    stage.choice = (POD_IDENTITY,)
    stage.say("n1", WantedBlob("registry.example", "team/app", DIGEST, order="ns/web"))
    (lease,) = stage.leases
    assert lease.source is not None
    assert (True, {}) == (lease.source.pod_identity, lease.source.headers)


def test_a_peers_own_credentials_are_never_the_identity_of_the_pod(stage: Stage) -> None:
    stage.choice = (POD_IDENTITY,)
    stage.say("n1", WANTED)
    (lease,) = stage.leases
    assert lease.source is not None
    assert not lease.source.pod_identity
