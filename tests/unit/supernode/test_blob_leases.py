"""Which blobs are fetched, from where, and who gets them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pantala_protocol import task_id
from pantala_protocol.statement import CDNStatus, Failure, Statement
from pantala_protocol.sync import Wanted
from pantala_supernode.images.blobs import KeptBlob
from pantala_supernode.images.leases import PRIORITY, BlobLeases
from pantala_supernode.images.orders import OrderAccounts, StatedImages
from pantala_supernode.registry.endpoint import RegistryEndpoints
from pantala_supernode.registry.permissions import RegistryPermissions
from pantala_supernode.swarm.download import DfgetTaskManager
from pantala_supernode.swarm.limits import SchedulingPolicy
from pantala_supernode.swarm.peer import PeerManager, SwarmPeer
from pantala_supernode.swarm.progress import ProgressManager
from pantala_supernode.swarm.scheduler import Managers, SchedulerManager
from pantala_supernode.tasks.copy import Copy, FileSource
from pantala_supernode.tasks.manager import TaskManager
from pantala_supernode.tasks.task import Lease, Task

DIGEST = "sha256:" + "a" * 64
NAME = task_id.of_blob(DIGEST)
WANTED = Wanted("registry.example", "team/app", DIGEST, credential="Bearer one")
URL = f"https://registry.example/v2/team/app/blobs/{DIGEST}"
ONE, TWO = (FileSource(URL, {"Authorization": f"Bearer {who}"}, DIGEST) for who in ("one", "two"))
KEPT = 1000.0


class Stage:
    """A supernode without a CDN, a registry or a network."""

    def __init__(self, *, stated: bool = True) -> None:
        self.now = 100.0
        self.unknown = True
        self.asked: list[FileSource] = []
        self.told: list[str] = []
        self.leases: list[Lease] = []
        progress = ProgressManager()
        scheduler = SchedulerManager(progress, policy=SchedulingPolicy(), chance=None, lookup=lambda _: None)  # type: ignore[arg-type]
        self.managers = Managers(TaskManager(grace=5), DfgetTaskManager(), PeerManager(), progress, scheduler)
        for name in ("n1", "n2"):
            self.managers.peers.register(SwarmPeer(name, "boot", "10.0.0.1", 1, b""))
        self.wants = BlobLeases(
            self,
            self.managers,
            StatedImages(),
            OrderAccounts(),
            RegistryEndpoints(only=["registry.example"]),
            RegistryPermissions(b"key", lambda: self.now),
            self,  # type: ignore[arg-type]
            reassign=self.told.extend,
            unknown=lambda _: self.unknown,
            seconds=KEPT,
            clock=lambda: self.now,
        )
        if stated:
            self.state()

    def state(self) -> None:
        self.managers.tasks.state(Statement(1), now=self.now)
        self.wants.on_statement()

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

    def shows(self, **copy: object) -> None:
        """The CDN has news."""
        self.managers.tasks.update(NAME, replace(self.task.copy, **copy))  # type: ignore[arg-type]
        self.wants.on_task_changed(NAME)

    def comes(self, *, whole: bool = False) -> None:
        self.shows(cached=1, generation="g", status=CDNStatus.SUCCESS if whole else CDNStatus.RUNNING, failure=None)

    def fails(self) -> None:
        self.shows(status=CDNStatus.FAILED, failure=Failure("SourceUnauthorized", "no", final=True))


@pytest.fixture
def stage() -> Stage:
    return Stage()


def say(stage: Stage, peer: str, *wanted: Wanted) -> None:
    stage.wants.take(peer, {task_id.of_blob(one.digest): one for one in wanted})


def test_a_blob_is_leased_as_the_node_may_have_it_and_given_once_something_came(stage: Stage) -> None:
    say(stage, "n1", WANTED)
    (lease,) = stage.leases
    assert replace(ONE, attempt="blob:1", priority=PRIORITY) == lease.source
    assert set() == stage.task.fetchers
    stage.comes()
    assert ({"n1"}, {"n1"}, []) == (stage.task.fetchers, stage.task.keepers, stage.asked)
    assert "n1" in stage.told
    say(stage, "n1", WANTED)
    assert 1 == len(stage.leases)


def test_before_a_statement_nothing_is_heeded_but_remembered() -> None:
    stage = Stage(stated=False)
    say(stage, "n1", WANTED)
    assert [] == stage.leases
    stage.state()
    assert 1 == len(stage.leases)


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted("other.example", "team/app", DIGEST),
        Wanted("registry.example", "../app", DIGEST),
        Wanted("registry.example", "team/app", DIGEST, order="ns/none"),
    ],
)
def test_what_cannot_be_fetched_for_a_node_is_not(stage: Stage, wanted: Wanted) -> None:
    say(stage, "n1", wanted)
    stage.wants.take("n2", {"0" * 64: WANTED})
    assert [] == stage.leases


def test_a_refused_credential_gives_way_to_another_nodes(stage: Stage) -> None:
    say(stage, "n1", WANTED)
    say(stage, "n2", Wanted("registry.example", "team/app", DIGEST, credential="Bearer two"))
    assert 1 == len(stage.leases)
    stage.fails()
    assert "Bearer two" == stage.leases[-1].source.headers["Authorization"]  # type: ignore[union-attr]
    assert stage.leases[0].attempt != stage.leases[-1].attempt
    stage.comes()
    assert {"n2"} == stage.task.fetchers
    say(stage, "n1", WANTED)
    assert ([], {"n2"}) == (stage.asked, stage.task.fetchers)


def test_a_credential_that_was_renewed_is_used_at_the_next_try(stage: Stage) -> None:
    say(stage, "n1", WANTED)
    say(stage, "n1", Wanted("registry.example", "team/app", DIGEST, credential="Bearer two"))
    assert "Bearer two" == stage.leases[-1].source.headers["Authorization"]  # type: ignore[union-attr]


def test_who_comes_back_after_a_failure_tries_anew(stage: Stage) -> None:
    say(stage, "n1", WANTED)
    stage.fails()
    say(stage, "n1", WANTED)
    assert 1 == len(stage.leases)  # the same pull still waits
    say(stage, "n1")
    say(stage, "n1", WANTED)
    assert 2 == len({lease.attempt for lease in stage.leases})


def test_another_credential_has_to_show_that_it_opens_the_blob_and_is_believed_for_a_while(stage: Stage) -> None:
    say(stage, "n1", WANTED)
    stage.comes()
    other = Wanted("registry.example", "team/app", DIGEST, credential="Bearer two")
    say(stage, "n2", other)
    assert ([TWO], {"n1"}) == (stage.asked, stage.task.fetchers)
    stage.wants.on_proof(NAME, TWO, True)
    assert {"n1", "n2"} == stage.task.fetchers
    say(stage, "n2")
    assert ({"n1"}, {"n1", "n2"}) == (stage.task.fetchers, stage.task.keepers)
    stage.now += 299
    say(stage, "n2", other)
    assert [TWO] == stage.asked
    say(stage, "n2")
    stage.now += 2
    say(stage, "n2", other)
    assert [TWO, TWO] == stage.asked


def test_who_shows_nothing_gets_nothing_and_is_not_asked_again_and_again(stage: Stage) -> None:
    say(stage, "n1", WANTED)
    stage.comes()
    other = Wanted("registry.example", "team/app", DIGEST, credential="Bearer two")
    say(stage, "n2", other)
    stage.wants.on_proof(NAME, TWO, False)
    say(stage, "n2", other)
    stage.comes(whole=True)
    assert ([TWO], {"n1"}) == (stage.asked, stage.task.keepers)


def test_what_was_here_before_has_to_be_shown_even_by_the_first(stage: Stage) -> None:
    stage.unknown = False
    say(stage, "n1", WANTED)
    stage.comes(whole=True)
    assert ([ONE], set()) == (stage.asked, stage.task.fetchers)
    stage.wants.on_proof(NAME, ONE, True)
    assert {"n1"} == stage.task.fetchers


def test_a_source_that_took_over_from_one_that_ran_has_to_be_shown(stage: Stage) -> None:
    """Else what still comes from the former one would prove a right to it."""
    say(stage, "n1", WANTED)
    say(stage, "n2", Wanted("registry.example", "team/app", DIGEST, credential="Bearer two"))
    say(stage, "n1")
    say(stage, "n2", Wanted("registry.example", "team/app", DIGEST, credential="Bearer two"))
    stage.comes()
    assert ([TWO], set()) == (stage.asked, stage.task.fetchers)


def test_a_blob_is_kept_after_its_last_want_and_one_that_is_not_whole_for_a_minute(stage: Stage) -> None:
    say(stage, "n1", WANTED)
    stage.comes()
    say(stage, "n1")
    assert stage.task.lease is not None
    assert stage.now + 60 == stage.task.lease.until
    stage.comes(whole=True)
    assert stage.now + KEPT == stage.task.lease.until
    stage.now += KEPT
    changed = stage.managers.tasks.expire(now=stage.now)
    assert (frozenset({NAME}), frozenset({"n1"})) == (changed.retired, changed.peers)
    assert frozenset() == stage.managers.tasks.kept_by("n1")


def test_as_long_as_somebody_waits_the_lease_lasts(stage: Stage) -> None:
    say(stage, "n1", WANTED)
    for _ in range(3):
        stage.now += 50
        stage.wants.tick()
        assert set() == stage.managers.tasks.expire(now=stage.now).retired
    stage.managers.peers.update("n1", connected=False)
    stage.wants.tick()
    stage.now += 61
    assert {NAME} == stage.managers.tasks.expire(now=stage.now).retired


def test_a_node_that_lost_what_it_had_does_not_hold_it(stage: Stage) -> None:
    say(stage, "n1", WANTED)
    stage.comes()
    stage.wants.take_inventory("n1", [])
    assert {"n1"} == stage.task.keepers  # it waits for it
    say(stage, "n1")
    stage.wants.take_inventory("n1", [NAME])
    assert {"n1"} == stage.task.keepers
    stage.wants.take_inventory("n1", [])
    assert set() == stage.task.keepers


def test_the_blob_that_nobody_waits_for_gives_way(stage: Stage) -> None:
    say(stage, "n1", WANTED)
    stage.comes(whole=True)
    assert not stage.wants.release_idle()
    say(stage, "n1")
    assert stage.wants.release_idle()
    assert None is stage.managers.tasks.get(NAME)
    assert not stage.wants.release_idle()


def restored(*, idle: float = 10.0) -> Stage:
    """Another process's stage, on the same volume, which is not read yet."""
    stage = Stage(stated=False)
    stage.unknown = False
    stage.wants.restore([KeptBlob(DIGEST, "g", idle)])
    return stage


def test_what_is_whole_is_noted_for_the_next_process_without_who_may_have_it(stage: Stage) -> None:
    say(stage, "n1", WANTED)
    stage.comes()
    assert () == stage.wants.kept()
    stage.comes(whole=True)
    stage.now += 30
    assert (KeptBlob(DIGEST, "g", 0.0),) == stage.wants.kept()
    say(stage, "n1")
    stage.now += 40
    assert (KeptBlob(DIGEST, "g", 40.0),) == stage.wants.kept()
    stage.managers.tasks.expire(now=stage.now + KEPT)
    assert () == stage.wants.kept()


def test_a_restored_blob_is_kept_as_long_as_before_and_nothing_is_fetched_for_it() -> None:
    stage = restored(idle=400.0)
    assert [None] == [lease.source for lease in stage.leases]
    assert stage.task.suspended
    assert (KeptBlob(DIGEST, "g", 400.0),) == stage.wants.kept()
    stage.state()
    stage.comes(whole=True)
    stage.wants.on_volume_read()
    stage.now += 599
    stage.wants.tick()
    assert frozenset() == stage.managers.tasks.expire(now=stage.now).retired
    assert (KeptBlob(DIGEST, "g", 999.0),) == stage.wants.kept()
    stage.now += 1
    assert {NAME} == stage.managers.tasks.expire(now=stage.now).retired


def test_what_nobody_waited_for_for_too_long_is_not_restored() -> None:
    assert None is restored(idle=KEPT).managers.tasks.get(NAME)
    assert 100.0 + KEPT == restored(idle=-5.0).task.lease.until  # type: ignore[union-attr]


def test_who_knows_the_generation_of_a_restored_blob_keeps_it_and_is_given_nothing() -> None:
    stage = restored()
    stage.wants.take_holdings("n1", {NAME: ("g", 1), "0" * 64: ("g", 1)})
    stage.wants.take_holdings("n2", {NAME: ("other", 1)})
    assert ({"n1"}, set()) == (stage.task.keepers, stage.task.fetchers)
    stage.wants.take_inventory("n1", [])
    assert set() == stage.task.keepers


def test_nobody_becomes_a_holder_of_what_this_process_began_by_saying_so(stage: Stage) -> None:
    say(stage, "n1", WANTED)
    stage.comes(whole=True)
    stage.wants.take_holdings("n2", {NAME: ("g", 1)})
    assert {"n1"} == stage.task.keepers


def test_who_wants_a_restored_blob_shows_a_right_to_it_and_it_is_not_fetched_for_nothing() -> None:
    stage = restored()
    stage.wants.take_holdings("n1", {NAME: ("g", 1)})
    stage.state()
    say(stage, "n1", WANTED)
    assert not stage.task.suspended
    stage.comes(whole=True)
    assert ([ONE], set()) == (stage.asked, stage.task.fetchers)
    stage.wants.on_proof(NAME, ONE, False)
    assert set() == stage.task.fetchers
    say(stage, "n2", Wanted("registry.example", "team/app", DIGEST, credential="Bearer two"))
    stage.wants.on_proof(NAME, TWO, True)
    assert {"n2"} == stage.task.fetchers


def test_what_the_volume_does_not_have_any_more_is_kept_only_for_who_waits() -> None:
    stage = restored()
    stage.wants.on_volume_read()
    assert None is stage.managers.tasks.get(NAME)
    stage = restored()
    stage.state()
    say(stage, "n1", WANTED)
    stage.wants.on_volume_read()
    assert (URL, ()) == (stage.task.lease.source.url, stage.wants.kept())  # type: ignore[union-attr]


def test_room_is_made_of_restored_blobs_too() -> None:
    stage = restored()
    assert stage.wants.release_idle()
    assert None is stage.managers.tasks.get(NAME)
