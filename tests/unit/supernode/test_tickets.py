"""How long a ticket is given to peers."""

import pytest

from pantala_protocol import ticket
from pantala_supernode.sync.tickets import TicketCache
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


@pytest.mark.parametrize("ahead", [3600.0, -3600.0, 20.0])
def test_m5_a_ticket_fits_the_clock_of_its_piece_server(tickets: TicketCache, clock: Clock, ahead: float) -> None:
    """A peer with a wrong clock would refuse each ticket of the supernode's time."""
    first = tickets.ticket(KEY, "t", "g", ahead=ahead)
    assert ticket.check(KEY, "t", "g", first, now=clock.now + ahead)
    assert not ticket.check(KEY, "t", "g", first, now=clock.now + ahead + 700)
    assert first == tickets.ticket(KEY, "t", "g", ahead=ahead + 1)


def test_each_server_task_and_generation_has_its_own(tickets: TicketCache) -> None:
    names = ((KEY, "t", "g"), (b"l" * 32, "t", "g"), (KEY, "u", "g"), (KEY, "t", "h"))
    assert 4 == len({tickets.ticket(*each) for each in names})
