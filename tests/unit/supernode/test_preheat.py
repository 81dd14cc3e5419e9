"""Preheats: their leases, their ends, and when they are forgotten."""

from datetime import UTC, datetime

import pytest

from pantala_protocol.statement import CDNStatus, Failure
from pantala_supernode.dragonfly.preheat import Preheat, PreheatManager, PreheatStatus
from pantala_supernode.dragonfly.wire import Registration
from pantala_supernode.errors import ConflictError, EmptyValueError, NotFoundError
from pantala_supernode.tasks.copy import Copy, FileSource
from pantala_supernode.tasks.task import Lease
from tests.unit.supernode.conftest import URL, Clock, Leases

ORDER = Registration("preheat", URL, URL, "", 0, "", "", "", {"user-agent": "y"}, dfdaemon=False)
ID = ORDER.task_id
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
    preheats.on_task_changed(ID)


def test_a_preheat_leases_the_task_and_waits(leases: Leases, preheats: PreheatManager) -> None:
    preheat = preheats.create(ORDER)
    assert Preheat(ID, PreheatStatus.WAITING, datetime.fromtimestamp(5000, UTC)) == preheat
    source = leases.tasks.known(ID).order().source
    assert (URL, {"user-agent": "y"}) == (source.url, source.headers)
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
    assert (PreheatStatus.SUCCESS, "") == (preheat.status, preheat.message)
    assert datetime.fromtimestamp(5007, UTC) == preheat.finished_at
    become(leases, preheats, CDNStatus.RUNNING)
    assert PreheatStatus.SUCCESS is preheat.status


def test_the_preheat_of_a_cached_file_succeeds_at_once(leases: Leases, preheats: PreheatManager) -> None:
    leases.lease(ID, Lease(FileSource(URL, attempt="7"), 9999.0))
    leases.tasks.update(ID, Copy(ID, CDNStatus.SUCCESS))
    assert PreheatStatus.SUCCESS is preheats.create(ORDER).status
    lease = leases.tasks.known(ID).lease
    assert lease is not None
    assert "7" == lease.attempt


def test_a_file_has_one_preheat(leases: Leases, preheats: PreheatManager) -> None:
    preheats.create(ORDER)
    with pytest.raises(ConflictError):
        preheats.create(ORDER)
    become(leases, preheats, CDNStatus.SUCCESS)
    with pytest.raises(ConflictError):
        preheats.create(ORDER)


def test_a_failed_preheat_may_be_repeated_as_another(leases: Leases, preheats: PreheatManager, clock: Clock) -> None:
    preheats.create(ORDER)
    first = leases.tasks.known(ID).order().source.attempt
    become(leases, preheats, CDNStatus.FAILED, LOST)
    assert (PreheatStatus.FAILED, "no such file") == (preheats.get(ID).status, preheats.get(ID).message)
    clock.now += 1
    preheats.create(ORDER)
    assert first != leases.tasks.known(ID).order().source.attempt


def test_a_deleted_task_fails_its_preheat(leases: Leases, preheats: PreheatManager) -> None:
    preheat = preheats.create(ORDER)
    leases.tasks.end_lease(ID)
    preheats.on_task_changed(ID)
    preheats.on_task_changed("of no preheat")
    assert (PreheatStatus.FAILED, True) == (preheat.status, "deleted" in preheat.message)


def test_unknown_and_empty_ids_are_different_errors(preheats: PreheatManager) -> None:
    for do in (preheats.get, preheats.delete):
        with pytest.raises(NotFoundError):
            do("x")
        with pytest.raises(EmptyValueError):
            do("")


@pytest.mark.parametrize(
    ("fetchers", "status", "expected"),
    [(set(), CDNStatus.RUNNING, [(ID, True)]), ({"guest"}, CDNStatus.RUNNING, []), (set(), CDNStatus.SUCCESS, [])],
)
def test_a_deleted_preheat_stops_unless_clients_want_the_file(
    leases: Leases, preheats: PreheatManager, fetchers: set[str], status: CDNStatus, expected: list[tuple[str, bool]]
) -> None:
    preheats.create(ORDER)
    leases.tasks.known(ID).fetchers |= fetchers
    become(leases, preheats, status)
    preheats.delete(ID)
    assert (expected, []) == (leases.ended, list(preheats))


def test_an_ended_preheat_is_forgotten_after_a_day(leases: Leases, preheats: PreheatManager, wall: Clock) -> None:
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
