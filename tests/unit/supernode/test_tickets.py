"""Tickets are reused for a while, and valid for as long again."""

import pytest

from pantala_protocol import ticket
from pantala_supernode.sync.dispatch import TicketCache
from tests.unit.supernode.conftest import Clock

KEY = b"k" * 32


@pytest.fixture
def clock() -> Clock:
    return Clock(1_000_000.0)


@pytest.fixture
def tickets(clock: Clock) -> TicketCache:
    return TicketCache(clock)


def test_a_ticket_is_reused_for_half_its_life(tickets: TicketCache, clock: Clock) -> None:
    first = tickets.ticket(KEY, "t", "g")
    clock.now += ticket.LIFETIME / 2 - 1
    assert first == tickets.ticket(KEY, "t", "g")
    assert ticket.check(KEY, "t", "g", first, now=clock.now)


@pytest.mark.parametrize("seconds", [ticket.LIFETIME / 2, -3600], ids=["later", "clock set back"])
def test_an_old_ticket_is_replaced(tickets: TicketCache, clock: Clock, seconds: float) -> None:
    first = tickets.ticket(KEY, "t", "g")
    clock.now += seconds
    second = tickets.ticket(KEY, "t", "g")
    assert first != second
    assert ticket.check(KEY, "t", "g", second, now=clock.now)


def test_each_server_task_and_generation_has_its_own(tickets: TicketCache) -> None:
    names = ((KEY, "t", "g"), (b"l" * 32, "t", "g"), (KEY, "u", "g"), (KEY, "t", "h"))
    assert 4 == len({tickets.ticket(*each) for each in names})


def test_tickets_that_are_not_reused_any_more_are_dropped(tickets: TicketCache, clock: Clock) -> None:
    tickets.ticket(KEY, "t", "g")
    tickets.expire()
    assert 1 == len(tickets._issued)
    clock.now += ticket.LIFETIME
    tickets.expire()
    assert {} == tickets._issued
