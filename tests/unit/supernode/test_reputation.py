"""The choice of providers: their reputation, the supernode's own link, and names to draw from."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_supernode.swarm.limits import Uplink
from pantala_supernode.swarm.pool import Pool
from pantala_supernode.swarm.reputation import Reputation, Tolerance

TOLERANCE = Tolerance()


@pytest.fixture
def reputation() -> Reputation:
    return Reputation(TOLERANCE)


def put_out(reputation: Reputation, now: float = 0.0) -> None:
    for accuser in ("a", "b"):
        reputation.failed("bad", accuser, corrupt=True, now=now)


def serve_well(reputation: Reputation, pieces: int, now: float) -> None:
    for _ in range(pieces):
        reputation.served("bad", "c", now=now)


def test_one_accuser_alone_excludes_no_provider(reputation: Reputation) -> None:
    for second in range(100):
        reputation.failed("honest", "liar", corrupt=True, now=float(second))
    assert 4 == reputation.allows("honest", 4, now=100.0)


def test_two_accusers_of_wrong_bytes_exclude_an_unknown_provider(reputation: Reputation) -> None:
    put_out(reputation)
    assert 0 == reputation.allows("bad", 4, now=0.0)


def test_broken_links_need_twice_as_many_accusers(reputation: Reputation) -> None:
    for accuser, allowed in (("a", 4), ("b", 4), ("c", 4), ("d", 0)):
        reputation.failed("bad", accuser, corrupt=False, now=0.0)
        assert allowed == reputation.allows("bad", 4, now=0.0)


def test_a_few_failures_among_many_successes_are_tolerated(reputation: Reputation) -> None:
    serve_well(reputation, 50, now=0.0)
    put_out(reputation)
    assert 4 == reputation.allows("bad", 4, now=0.0)
    reputation.failed("bad", "c", corrupt=True, now=0.0)
    assert 0 == reputation.allows("bad", 4, now=0.0)


def test_failures_of_long_ago_are_forgotten(reputation: Reputation) -> None:
    reputation.failed("bad", "a", corrupt=True, now=0.0)
    reputation.failed("bad", "b", corrupt=True, now=10 * TOLERANCE.half_life)
    assert 4 == reputation.allows("bad", 4, now=10 * TOLERANCE.half_life)


def test_a_peer_that_complains_of_all_providers_counts_less(reputation: Reputation) -> None:
    for number in range(8):
        reputation.failed(f"n{number}", "liar", corrupt=True, now=0.0)
    reputation.failed("honest", "liar", corrupt=True, now=0.0)
    reputation.failed("honest", "a", corrupt=True, now=0.0)
    assert 4 == reputation.allows("honest", 4, now=0.0)


def test_a_peer_that_takes_many_right_pieces_counts_fully(reputation: Reputation) -> None:
    reputation.failed("other", "a", corrupt=True, now=0.0)
    for _ in range(40):
        reputation.served("other", "a", now=0.0)
    put_out(reputation)
    assert 0 == reputation.allows("bad", 4, now=0.0)


def test_after_the_exclusion_follows_a_probation(reputation: Reputation) -> None:
    put_out(reputation)
    back = TOLERANCE.out_seconds
    assert 0 == reputation.allows("bad", 4, now=back - 1)
    assert (1, 0) == (reputation.allows("bad", 4, now=back), reputation.allows("bad", 0, now=back))
    serve_well(reputation, TOLERANCE.probation - 1, now=back)
    assert 1 == reputation.allows("bad", 4, now=back)
    serve_well(reputation, 1, now=back)
    assert 4 == reputation.allows("bad", 4, now=back)


def test_pieces_served_during_the_exclusion_do_not_count(reputation: Reputation) -> None:
    put_out(reputation)
    serve_well(reputation, 10, now=1.0)
    assert 1 == reputation.allows("bad", 4, now=TOLERANCE.out_seconds)


def test_each_failed_probation_takes_twice_as_long_up_to_a_bound(reputation: Reputation) -> None:
    put_out(reputation)
    now, seconds = TOLERANCE.out_seconds, []
    for number in range(40):
        reputation.failed("bad", f"n{number}", corrupt=False, now=now)
        begun = now
        while not reputation.allows("bad", 4, now=now):
            now += 1.0
        seconds.append(now - begun)
    assert [120.0, 240.0, 480.0, 960.0, 960.0] == seconds[:5]
    assert 960.0 == seconds[-1]


def test_a_liar_cannot_fail_a_probation(reputation: Reputation) -> None:
    for number in range(8):
        reputation.failed(f"n{number}", "liar", corrupt=True, now=0.0)
    put_out(reputation)
    reputation.failed("bad", "liar", corrupt=True, now=TOLERANCE.out_seconds)
    assert 1 == reputation.allows("bad", 4, now=TOLERANCE.out_seconds)


def test_a_forgotten_peer_starts_over(reputation: Reputation) -> None:
    put_out(reputation)
    reputation.forget("bad")
    assert 4 == reputation.allows("bad", 4, now=0.0)


def test_faded_failures_are_dropped_and_a_probation_is_not(reputation: Reputation) -> None:
    put_out(reputation)
    reputation.failed("other", "a", corrupt=True, now=0.0)
    serve_well(reputation, 1, now=0.0)
    reputation.expire(1000.0)
    assert 1 == reputation.allows("bad", 4, now=1000.0)
    assert (["bad"], {}, {}) == (list(reputation._records), reputation._complaints, reputation._taken)


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


names = st.sampled_from([f"n{number}" for number in range(8)])


@given(st.lists(st.tuples(st.booleans(), names)))
def test_a_pool_is_a_set(steps: list[tuple[bool, str]]) -> None:
    pool, model = Pool(), set[str]()
    for puts_in, name in steps:
        if puts_in:
            pool.add(name)
            model.add(name)
        else:
            pool.discard(name)
            model.discard(name)
        assert (len(model), sorted(model), name in model) == (len(pool), sorted(pool), name in pool)


def test_few_names_are_all_drawn_and_of_many_a_sample() -> None:
    pool, chance = Pool(), random.Random(1)
    assert [] == pool.draw(chance, 4)
    for number in range(4):
        pool.add(f"n{number}")
    drawn = [pool.draw(chance, 4) for _ in range(50)]
    assert {4} == {len({*names}) for names in drawn}
    assert 1 < len({names[0] for names in drawn})
    pool.add("n4")
    assert {4} == {len(pool.draw(chance, 4)) for _ in range(50)}
