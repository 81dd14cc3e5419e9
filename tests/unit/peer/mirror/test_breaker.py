"""A repository is left alone after it was slow, by itself and for a while."""

from pantala_peer.mirror.breaker import SECONDS, Breaker


def test_it_is_open_for_its_time_and_for_its_repository_only() -> None:
    breaker = Breaker()
    assert not breaker.is_open("a", 0.0)
    breaker.trip("a", 100.0)
    assert breaker.is_open("a", 100.0)
    assert breaker.is_open("a", 100.0 + SECONDS - 0.1)
    assert not breaker.is_open("b", 100.0)
    assert not breaker.is_open("a", 100.0 + SECONDS)


def test_what_is_over_is_forgotten() -> None:
    breaker = Breaker(1.0)
    for number in range(1000):
        breaker.trip(str(number), float(number))
    assert len(breaker._until) < 3
