"""Which blobs are fetched, from where, and which peers receive them."""

from collections.abc import Iterator
from dataclasses import replace

import msgspec
import pytest

from pantala_protocol import task_id
from pantala_protocol.images import PullOrder, WantedImage
from pantala_protocol.rules.rights import SECONDS
from pantala_protocol.statement import CDNStatus, Statement
from pantala_protocol.sync import WantedBlob
from pantala_supernode.images import leases, sources
from pantala_supernode.images.leases import PRIORITY
from pantala_supernode.registry.credentials import POD_IDENTITY
from pantala_supernode.tasks.manager import TaskManager
from pantala_supernode.tasks.task import Task
from tests.support.blob_stage import DIGEST, KEPT, NAME, ONE, OTHER, WANTED, BlobStage


def test_a_blob_is_leased_with_the_peers_credentials_and_served_once_pieces_arrive(stage: BlobStage) -> None:
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
    stage = BlobStage(stated=False)
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
def test_invalid_demand_is_ignored(stage: BlobStage, wanted: WantedBlob) -> None:
    stage.say("n1", wanted)
    stage.blobs.take("n2", {"0" * 64: WANTED})
    assert [] == stage.leases


def test_a_refused_credential_is_replaced_by_another_peers(stage: BlobStage) -> None:
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


def test_a_renewed_credential_is_used(stage: BlobStage) -> None:
    stage.say("n1", WANTED)
    stage.say("n1", OTHER)
    assert "Bearer two" == stage.leases[-1].source.headers["Authorization"]  # type: ignore[union-attr]


def test_new_demand_after_a_failure_tries_again(stage: BlobStage) -> None:
    stage.say("n1", WANTED)
    stage.fails("SourceUnusable")
    stage.say("n1", WANTED)
    assert 1 == len(stage.leases)  # the same pull still waits
    stage.say("n1")
    stage.say("n1", WANTED)
    assert 2 == len({lease.attempt for lease in stage.leases})


def test_a_blob_is_kept_after_its_demand_but_an_incomplete_one_only_for_a_minute(stage: BlobStage) -> None:
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


def test_a_lease_lasts_while_a_peer_waits(stage: BlobStage) -> None:
    stage.say("n1", WANTED)
    for _ in range(3):
        stage.now += 50
        stage.blobs.tick()
        assert set() == stage.managers.tasks.expire(now=stage.now).retired
    stage.managers.peers.update("n1", connected=False)
    stage.blobs.tick()
    stage.now += 61
    assert {NAME} == stage.managers.tasks.expire(now=stage.now).retired


def test_further_pieces_of_a_copy_cost_nothing_for_each_waiting_peer(
    stage: BlobStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.say("n1", WANTED)
    stage.say("n2", OTHER)
    stage.arrives()
    decided: list[object] = []
    monkeypatch.setattr(stage.blobs, "_right", lambda *about: decided.append(about))
    for pieces in (3, 7, 15):
        stage.shows(cached=pieces)
    assert [] == decided
    stage.shows(status=CDNStatus.SUCCESS)
    assert 1 == len(decided)


def test_a_peer_that_lost_its_pieces_keeps_none(stage: BlobStage) -> None:
    stage.say("n1", WANTED)
    stage.arrives()
    stage.blobs.take_inventory("n1", [])
    assert {"n1"} == stage.task.keepers  # it waits for it
    stage.say("n1")
    stage.blobs.take_inventory("n1", [NAME])
    assert {"n1"} == stage.task.keepers
    stage.blobs.take_inventory("n1", [])
    assert set() == stage.task.keepers


def test_an_idle_blob_is_released_for_room(stage: BlobStage) -> None:
    stage.say("n1", WANTED)
    stage.arrives(whole=True)
    assert not stage.blobs.release_idle()
    stage.say("n1")
    assert stage.blobs.release_idle()
    assert None is stage.managers.tasks.get(NAME)
    assert not stage.blobs.release_idle()


def test_requests_for_many_blobs_take_limited_memory(stage: BlobStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_KEPT", 8)
    stage.say("n2", WANTED)
    digests = [f"sha256:{number:064x}" for number in range(100)]
    for digest in digests:
        stage.now += 1.0
        stage.say("n1", msgspec.structs.replace(WANTED, digest=digest))
    left = {task.id for task in stage.managers.tasks}
    assert {NAME, *(task_id.of_blob(digest) for digest in digests[-5:])} <= left
    assert 10 >= len(left)


def test_many_blobs_for_which_a_peer_waits_do_not_slow_down_each_exchange(
    stage: BlobStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "_KEPT", 8)
    stage.say("n2", WANTED, *(msgspec.structs.replace(WANTED, digest=f"sha256:{number:064x}") for number in range(20)))
    searches = []

    def no_tasks(manager: TaskManager) -> Iterator[Task]:
        searches.append(manager)
        return iter(())

    monkeypatch.setattr(TaskManager, "__iter__", no_tasks)
    for _ in range(10):
        stage.say("n1", OTHER)
    assert [] == searches
    stage.blobs.tick()
    assert [stage.managers.tasks] == searches


def test_a_peer_waits_for_a_limited_number_of_blobs(stage: BlobStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_MOST", 3)
    stage.say("n1", *(msgspec.structs.replace(WANTED, digest=f"sha256:{number:064x}") for number in range(5)))
    assert 3 == len(list(stage.managers.tasks))


def test_only_an_order_lets_a_blob_be_read_with_the_identity_of_the_pod(stage: BlobStage) -> None:
    image = f"registry.example/team/app:1@{DIGEST}"
    wanted = WantedImage("ns/web", image, orders={"n1": PullOrder("run", 1, timeout=60)})
    stage.images.take(Statement(2, images=(wanted,)))
    stage.choice = (POD_IDENTITY,)
    stage.say("n1", WantedBlob("registry.example", "team/app", DIGEST, order="ns/web"))
    (lease,) = stage.leases
    assert lease.source is not None
    assert (True, {}) == (lease.source.pod_identity, lease.source.headers)


def test_a_peers_own_credentials_are_never_the_identity_of_the_pod(stage: BlobStage) -> None:
    stage.choice = (POD_IDENTITY,)
    stage.say("n1", WANTED)
    (lease,) = stage.leases
    assert lease.source is not None
    assert not lease.source.pod_identity


def test_h7_a_peer_shows_a_limited_number_of_credentials(stage: BlobStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The supernode asks a registry about each of them."""
    monkeypatch.setattr(sources, "_MOST_CREDENTIALS", 2)

    def used() -> list[str]:
        return [lease.source.headers["Authorization"] for lease in stage.leases if lease.source is not None]

    for number in range(5):
        stage.say("n1", msgspec.structs.replace(WANTED, credential=f"Bearer {number}"))
    assert ["Bearer 0", "Bearer 1"] == used()
    stage.say("n2", OTHER)
    assert "Bearer two" == used()[-1]
    stage.now += SECONDS
    stage.say("n1", msgspec.structs.replace(WANTED, credential="Bearer 5"))
    assert stage.blobs._blobs[NAME].waiting.keys() == {"n1", "n2"}
