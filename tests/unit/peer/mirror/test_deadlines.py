"""A slow repository is left alone for a while. Other repositories are not."""

from pantala_peer.mirror.deadlines import OPEN_SECONDS, RepositoryBreaker


def test_the_breaker_is_open_for_its_repository_and_time_only() -> None:
    breaker = RepositoryBreaker()
    assert not breaker.is_open("a", 0.0)
    breaker.trip("a", 100.0)
    assert breaker.is_open("a", 100.0)
    assert breaker.is_open("a", 100.0 + OPEN_SECONDS - 0.1)
    assert not breaker.is_open("b", 100.0)
    assert not breaker.is_open("a", 100.0 + OPEN_SECONDS)


def test_closed_breakers_are_forgotten() -> None:
    breaker = RepositoryBreaker(1.0)
    for number in range(1000):
        breaker.trip(str(number), float(number))
    assert len(breaker._until) < 3
