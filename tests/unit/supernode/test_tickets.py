"""Tickets are issued once for a while, and stay good for as long again."""

from pantala_protocol import ticket
from pantala_supernode.sync.dispatch import TicketCache


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_ticket_is_reused_for_half_its_life_and_good_when_it_is_given() -> None:
    clock = Clock()
    office = TicketCache(clock)
    first = office.ticket(b"k" * 32, "t", "g")
    clock.now += ticket.LIFETIME / 2 - 1
    assert first == office.ticket(b"k" * 32, "t", "g")
    assert ticket.check(b"k" * 32, "t", "g", first, now=clock.now)
    clock.now += 1
    second = office.ticket(b"k" * 32, "t", "g")
    assert first != second
    assert ticket.check(b"k" * 32, "t", "g", second, now=clock.now)


def test_each_server_task_and_generation_has_its_own() -> None:
    office = TicketCache(Clock())
    tickets = {
        office.ticket(b"k" * 32, "t", "g"),
        office.ticket(b"l" * 32, "t", "g"),
        office.ticket(b"k" * 32, "u", "g"),
        office.ticket(b"k" * 32, "t", "h"),
    }
    assert 4 == len(tickets)


def test_a_clock_that_was_set_back_does_not_keep_a_ticket_for_ever() -> None:
    clock = Clock()
    office = TicketCache(clock)
    first = office.ticket(b"k" * 32, "t", "g")
    clock.now -= 3600
    second = office.ticket(b"k" * 32, "t", "g")
    assert first != second
    assert ticket.check(b"k" * 32, "t", "g", second, now=clock.now)


def test_what_is_not_reused_any_more_is_forgotten() -> None:
    clock = Clock()
    office = TicketCache(clock)
    office.ticket(b"k" * 32, "t", "g")
    office.expire()
    assert 1 == len(office._issued)
    clock.now += ticket.LIFETIME
    office.expire()
    assert {} == office._issued
