"""The division of a copy among connections."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_supernode.cdn.segments import ConnectionScale, Division, Segment, SegmentPlan

FAST = Division().fast


def taken(plan: SegmentPlan) -> list[Segment]:
    """Take all segments."""
    found = []
    while (segment := plan.take()) is not None:
        found.append(segment)
    return found


@given(missing=st.sets(st.integers(0, 90)), pieces=st.integers(1, 9))
def test_each_missing_piece_is_given_out_once_and_the_first_ones_first(missing: set[int], pieces: int) -> None:
    segments = taken(SegmentPlan(sum(1 << piece for piece in missing), 0, pieces))
    assert sorted(missing) == [piece for segment in segments for piece in segment.rest]
    assert all(1 <= len(segment.rest) <= pieces for segment in segments)
    joined = itertools.pairwise(segments)
    assert all(len(one.rest) == pieces or one.stop < other.next for one, other in joined), "a run is divided too often"


ACTS = st.lists(st.tuples(st.sampled_from(["take", "arrive", "arrive", "fail", "divide"]), st.integers(0, 7)))


@given(total=st.integers(1, 60), pieces=st.integers(1, 5), acts=ACTS)
def test_connections_that_fail_and_divide_never_share_a_piece(
    total: int, pieces: int, acts: list[tuple[str, int]]
) -> None:
    plan, lead = SegmentPlan(0, 0, pieces), Segment(range(total))
    running, arrived = [lead], []
    for act, number in acts:
        segment = running[number % len(running)] if running else None
        if act == "take" or segment is None:
            new = plan.take()
            running += [new] if new is not None else []
        elif act == "arrive" and segment.rest:
            arrived.append(segment.next)
            segment.advance()
        elif act == "fail":
            running.remove(segment)
            plan.give_back(segment.rest)
        elif act == "divide":
            plan.divide(segment)
        held = [piece for each in running for piece in each.rest]
        assert len(held) == len(set(held))
    left = [piece for each in [*running, *taken(plan)] for piece in each.rest]
    assert list(range(total)) == sorted(arrived + left)


def test_a_piece_that_a_failed_connection_began_begins_a_segment() -> None:
    plan = SegmentPlan((1 << 9) - 1, 0, 3)
    first, second = taken(plan)[:2]
    second.advance()
    plan.give_back(second.rest)
    plan.give_back(first.rest)
    assert [range(3), range(4, 6)] == [segment.rest for segment in taken(plan)]
    plan.give_back(range(4, 6))  # the one after the other, as pieces 2 and 3 were read again
    plan.give_back(range(2, 4))
    assert [range(2, 4), range(4, 6)] == [segment.rest for segment in taken(plan)]
    plan.give_back(range(2, 2))
    assert plan.take() is None


def test_a_divided_connection_keeps_one_segment() -> None:
    plan, lead = SegmentPlan(0, 0, 4), Segment(range(2, 20))
    lead.advance()
    plan.divide(lead)
    assert (range(3, 7), range(7, 11)) == (lead.rest, plan.take().rest)  # type: ignore[union-attr]
    plan.divide(lead)
    assert range(3, 7) == lead.rest


@pytest.mark.parametrize(("size", "piece_size", "pieces"), [(16, 4, 4), (16, 16, 1), (16, 20, 1), (16, 5, 3)])
def test_a_segment_has_at_least_one_piece(size: int, piece_size: int, pieces: int) -> None:
    assert pieces == Division(segment=size).pieces(piece_size)


def scaled(most: int, rates: list[float], rest: int = 1 << 40) -> list[int]:
    """The targets after each measurement. The first window, which is skipped, is left out."""
    scale, found = ConnectionScale(most, Division(pause=2, patience=3)), []
    assert scale.target == 1
    for rate in [900e6, *rates]:
        scale.measured(rate, rest)
        found.append(scale.target)
    assert found[0] == 1
    return found[1:]


@pytest.mark.parametrize(
    ("most", "rates", "targets"),
    [
        (8, [25e6, 50e6, 100e6, 200e6], [2, 4, 8, 8]),
        (8, [25e6, 50e6, 55e6, 50e6, 50e6], [2, 4, 2, 2, 2]),
        (8, [25e6, 25e6, 25e6, 25e6, 25e6, 50e6], [2, 1, 1, 1, 2, 4]),  # after the pause it is tried again
        (8, [25e6, 1.25 * 25e6, 1.24 * 1.25 * 25e6], [2, 4, 2]),
        (8, [FAST, 2 * FAST], [1, 1]),
        (8, [FAST, FAST - 1, 2 * FAST], [1, 2, 2]),  # it became slower
        (3, [25e6, 50e6, 75e6, 75e6], [2, 3, 3, 3]),
        (1, [25e6, 25e6], [1, 1]),
        (8, [0.0, 0.0], [2, 4]),  # nothing arrived, so nothing is known
    ],
)
def test_connections_double_while_that_raises_the_throughput(most: int, rates: list[float], targets: list[int]) -> None:
    assert targets == scaled(most, rates)


@pytest.mark.parametrize(("rest", "target"), [(74_000_000, 1), (76_000_000, 2)])
def test_a_file_that_is_nearly_complete_is_left_to_one_connection(rest: int, target: int) -> None:
    assert [target] == scaled(8, [25e6], rest)


@pytest.mark.parametrize(("running", "target"), [(3, 3), (0, 1), (9, 4)])
def test_a_refused_connection_limits_the_number_for_good(running: int, target: int) -> None:
    scale = ConnectionScale(8, Division())
    for rate in (25e6, 25e6, 50e6):
        scale.measured(rate, 1 << 40)
    scale.limit(running)
    assert target == scale.target
    for rate in (900e6, 900e6, 900e6):
        scale.measured(rate, 1 << 40)
        assert target == scale.target
