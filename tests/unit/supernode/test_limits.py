"""How many pieces the supernode sends at once."""

import pytest

from pantala_supernode.swarm.limits import Uplink


def observe(uplink: Uplink, *, rate: float, under_way: int, seconds: int) -> None:
    """Peers move ``under_way`` pieces at ``rate`` bytes a second each."""
    for second in range(seconds + 1):
        uplink.observe(int(second * under_way * rate), under_way, now=100.0 + second)


@pytest.mark.parametrize(("rate", "slots"), [(1e6, 12), (1.5e6, 8), (0.5e6, 24), (1e3, 32), (1e9, 8)])
def test_the_pieces_fill_the_link_within_bounds(rate: float, slots: int) -> None:
    uplink = Uplink(12e6, least=8, most=32)
    observe(uplink, rate=rate, under_way=10, seconds=20)
    assert slots == uplink.slots


def test_the_least_while_the_speed_is_unknown() -> None:
    uplink = Uplink(12e6, least=8, most=32)
    assert 8 == uplink.slots
    observe(uplink, rate=1e3, under_way=1, seconds=3)
    assert 8 == uplink.slots


def test_the_least_without_a_known_bandwidth() -> None:
    uplink = Uplink(None, least=8, most=32)
    observe(uplink, rate=1e3, under_way=10, seconds=20)
    assert 8 == uplink.slots


def test_the_last_observations_count_most() -> None:
    uplink = Uplink(12e6, least=1, most=32)
    observe(uplink, rate=1e6, under_way=10, seconds=20)
    for second in range(60):
        uplink.observe(200_000_000 + int((second + 1) * 10 * 4e6), 10, now=121.0 + second)
    assert 3 == uplink.slots


def test_an_idle_time_changes_nothing() -> None:
    uplink = Uplink(12e6, least=8, most=32)
    observe(uplink, rate=1e6, under_way=10, seconds=20)
    for hour in range(1, 10):
        uplink.observe(200_000_000, 0, now=120.0 + hour * 3600)
    assert 12 == uplink.slots
