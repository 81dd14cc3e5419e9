"""The choice of copies to evict."""

from hypothesis import given
from hypothesis import strategies as st

from pantala_pieces.store import Usage
from pantala_protocol import task_id
from pantala_supernode.volume.eviction import Unwanted, Watermarks, aged, least_recently_used

NAMES = [task_id.compute(str(number)) for number in range(8)]
COPIES = st.lists(
    st.builds(Unwanted, st.sampled_from(NAMES), st.floats(0, 1000, allow_nan=False), st.integers(0, 1000)),
    unique_by=lambda copy: copy.task_id,
)


@given(COPIES, st.integers(-10, 5000))
def test_the_least_recently_used_copies_are_chosen_and_no_more_than_needed(copies: list[Unwanted], needed: int) -> None:
    chosen = least_recently_used(copies, needed)
    kept = [copy for copy in copies if copy not in chosen]
    assert sum(copy.size for copy in chosen) >= min(needed, sum(copy.size for copy in copies))
    assert sum(copy.size for copy in chosen[:-1]) < max(needed, 1)
    assert all(gone.used <= copy.used for gone in chosen for copy in kept)
    assert needed > 0 or chosen == []


@given(COPIES, st.floats(0, 2000), st.floats(0, 2000))
def test_age_alone_decides_what_is_too_old(copies: list[Unwanted], now: float, kept_for: float) -> None:
    gone = aged(copies, now=now, kept_for=kept_for)
    assert {copy.task_id: now - copy.used >= kept_for for copy in copies} == {
        copy.task_id: copy in gone for copy in copies
    }


@given(st.integers(1, 10**15), st.floats(0, 1), st.integers(1, 100), st.integers(1, 100))
def test_above_the_high_mark_eviction_reaches_the_low_mark(total: int, share: float, one: int, other: int) -> None:
    usage, marks = Usage(int(total * share), total), Watermarks(max(one, other), min(one, other))
    excess = marks.excess(usage)
    taken = total - usage.free
    if taken <= total * marks.high / 100:
        assert excess == 0
    else:
        assert taken - excess <= total * marks.low / 100 + 1
    assert 0 <= excess <= taken


def test_the_marks_mean_percent() -> None:
    assert [0, 11, 20] == [Watermarks(90, 80).excess(Usage(free, 100)) for free in (10, 9, 0)]
