"""Preheats: what they ask for, how they end, and when they are forgotten."""

from __future__ import annotations

import pytest

from pantala_protocol.statement import CDNStatus, Failure
from pantala_supernode.dragonfly.preheat import PreheatManager, PreheatOrder, PreheatStatus
from pantala_supernode.errors import ConflictError, EmptyValueError, NotFoundError
from pantala_supernode.tasks.copy import Copy, FileSource
from pantala_supernode.tasks.task import Lease
from tests.unit.supernode.conftest import ID, URL, Clock, Leases

ORDER = PreheatOrder(ID, URL, {"x": "y"})
LOST = Failure("SourceNotFound", "no such file", final=True)


@pytest.fixture
def wall() -> Clock:
    return Clock(5000.0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def preheats(leases: Leases, clock: Clock, wall: Clock) -> PreheatManager:
    return PreheatManager(leases, leases.tasks, clock=clock, wall=wall)


def become(leases: Leases, preheats: PreheatManager, status: CDNStatus, failure: Failure | None = None) -> None:
    leases.tasks.update(ID, Copy(ID, status, failure=failure))
    preheats.changed(ID)


def test_a_preheat_leases_the_task_and_waits(leases: Leases, preheats: PreheatManager) -> None:
    preheat = preheats.create(ORDER)
    assert (ID, PreheatStatus.WAITING, 5000.0, None) == (
        preheat.id, preheat.status, preheat.started_at, preheat.finished_at,
    )  # fmt: skip
    lease = leases.tasks.known(ID).lease
    assert lease is not None
    assert lease.source is not None
    assert (URL, {"x": "y"}) == (lease.source.url, lease.source.headers)
    assert [preheat] == list(preheats)
    assert preheat is preheats.get(ID)


def test_it_ends_with_the_copy_and_stays_ended(leases: Leases, preheats: PreheatManager, wall: Clock) -> None:
    preheat = preheats.create(ORDER)
    become(leases, preheats, CDNStatus.RUNNING)
    assert PreheatStatus.RUNNING is preheat.status
    become(leases, preheats, CDNStatus.FAILED, Failure("SourceTimeout", "slow"))
    assert (PreheatStatus.RUNNING, "slow") == (preheat.status, preheat.message)
    wall.now += 7
    become(leases, preheats, CDNStatus.SUCCESS)
    assert (PreheatStatus.SUCCESS, "", 5007.0) == (preheat.status, preheat.message, preheat.finished_at)
    become(leases, preheats, CDNStatus.RUNNING)
    assert PreheatStatus.SUCCESS is preheat.status


def test_a_file_that_is_there_already_is_preheated_at_once(leases: Leases, preheats: PreheatManager) -> None:
    leases.lease(ID, Lease(FileSource(URL, attempt="7"), 9999.0))
    leases.tasks.update(ID, Copy(ID, CDNStatus.SUCCESS))
    assert PreheatStatus.SUCCESS is preheats.create(ORDER).status
    lease = leases.tasks.known(ID).lease
    assert lease is not None
    assert "7" == lease.attempt


def test_one_file_is_preheated_once(leases: Leases, preheats: PreheatManager) -> None:
    preheats.create(ORDER)
    with pytest.raises(ConflictError):
        preheats.create(ORDER)
    become(leases, preheats, CDNStatus.SUCCESS)
    with pytest.raises(ConflictError):
        preheats.create(ORDER)


def test_one_that_failed_may_be_tried_again_by_another_attempt(
    leases: Leases, preheats: PreheatManager, clock: Clock
) -> None:
    preheats.create(ORDER)
    first = leases.tasks.known(ID).order().source.attempt
    become(leases, preheats, CDNStatus.FAILED, LOST)
    assert (PreheatStatus.FAILED, "no such file") == (preheats.get(ID).status, preheats.get(ID).message)
    clock.now += 1
    preheats.create(ORDER)
    assert first != leases.tasks.known(ID).order().source.attempt


def test_a_task_that_is_deleted_fails_its_preheat(leases: Leases, preheats: PreheatManager) -> None:
    preheat = preheats.create(ORDER)
    leases.tasks.end_lease(ID)
    preheats.changed(ID)
    preheats.changed("of no preheat")
    assert (PreheatStatus.FAILED, True) == (preheat.status, "deleted" in preheat.message)


def test_unknown_and_empty_ids_are_told_apart(preheats: PreheatManager) -> None:
    for do in (preheats.get, preheats.delete):
        with pytest.raises(NotFoundError):
            do("x")
        with pytest.raises(EmptyValueError):
            do("")


@pytest.mark.parametrize(
    ("fetchers", "status", "expected"),
    [
        (set(), CDNStatus.RUNNING, [(ID, True)]),
        ({"guest"}, CDNStatus.RUNNING, []),
        (set(), CDNStatus.SUCCESS, []),
    ],
)
def test_one_that_is_deleted_stops_unless_others_want_the_file(
    leases: Leases, preheats: PreheatManager, fetchers: set[str], status: CDNStatus, expected: list[tuple[str, bool]]
) -> None:
    preheats.create(ORDER)
    leases.tasks.known(ID).fetchers |= fetchers
    become(leases, preheats, status)
    preheats.delete(ID)
    assert (expected, []) == (leases.ended, list(preheats))


def test_an_ended_one_is_forgotten_after_a_day(leases: Leases, preheats: PreheatManager, wall: Clock) -> None:
    preheats.create(ORDER)
    wall.now += 30 * 3600
    preheats.tick()
    become(leases, preheats, CDNStatus.SUCCESS)
    wall.now += 24 * 3600
    preheats.tick()
    assert 1 == len(list(preheats))
    wall.now += 1
    preheats.tick()
    assert [] == list(preheats)
