"""The blobs that a supernode has from before its restart."""

from dataclasses import replace

import msgspec
import pytest

from pantala_protocol import task_id
from pantala_supernode.images import leases
from pantala_supernode.images.blob import KeptBlob
from tests.support.blob_stage import DIGEST, KEPT, NAME, ONE, OTHER, TWO, URL, WANTED, BlobStage


def restored(*, idle: float = 10.0) -> BlobStage:
    """Another process's stage, on the same volume, which is not read yet."""
    stage = BlobStage(stated=False)
    stage.blobs.restore([KeptBlob(DIGEST, "g", idle)])
    return stage


def test_whole_blobs_are_recorded_for_the_next_process(stage: BlobStage) -> None:
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


def test_holdings_count_for_restored_blobs_only(stage: BlobStage) -> None:
    stage.say("n1", WANTED)
    stage.arrives(whole=True)
    stage.blobs.take_holdings("n2", {NAME: ("g", 1)})
    assert {"n1"} == stage.task.keepers


def test_a_restored_blob_needs_the_consent_of_its_registry() -> None:
    stage = restored()
    stage.blobs.take_holdings("n1", {NAME: ("g", 1)})
    stage.state()
    stage.say("n1", WANTED)
    assert not stage.task.suspended
    stage.arrives(whole=True, of=replace(ONE, client=""))
    assert ([ONE], set()) == (stage.asked, stage.task.fetchers)
    stage.proves(ONE, False)
    assert set() == stage.task.fetchers
    stage.say("n2", OTHER)
    stage.proves(TWO, True)
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


def test_restored_blobs_count_for_the_limit_of_idle_blobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The blobs that are idle for longest go first."""
    monkeypatch.setattr(leases, "_KEPT", 8)
    stage = BlobStage(stated=False)
    digests = [f"sha256:{number:064x}" for number in range(12)]
    stage.blobs.restore(KeptBlob(digest, "g", float(age)) for age, digest in enumerate(digests))
    stage.state()
    stage.say("n1", WANTED)
    assert {NAME, *(task_id.of_blob(digest) for digest in digests[:6])} == {task.id for task in stage.managers.tasks}


def test_a_restored_whole_blob_outlives_younger_unfinished_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_KEPT", 8)
    stage = restored(idle=400.0)
    stage.state()
    stage.arrives(whole=True)
    for number in range(30):
        stage.say("n1", msgspec.structs.replace(WANTED, digest=f"sha256:{number:064x}"))
    assert 10 >= len(list(stage.managers.tasks))
    assert (KeptBlob(DIGEST, "g", 400.0),) == stage.blobs.kept()
