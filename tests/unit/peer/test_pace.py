"""How often a peer speaks with a supernode, and how many pieces it asks for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_peer.sync.pace import MOST_OFTEN, Pace, PieceWindow

MOMENTS = st.lists(st.tuples(st.floats(0, 0.2), st.booleans(), st.booleans()), min_size=200, max_size=400)


def test_the_first_exchange_begins_at_once() -> None:
    assert Pace().earliest(0.0) < 0


def test_reports_of_pieces_wait_for_the_interval() -> None:
    pace = Pace()
    pace.begin(10.0)
    assert pytest.approx(10.0 + MOST_OFTEN) == pace.earliest(10.0)
    pace.slow_down(0.2)
    assert pytest.approx(10.2) == pace.earliest(10.0)
    pace.slow_down(0.001)
    assert pytest.approx(10.0 + MOST_OFTEN) == pace.earliest(10.0)


def test_early_and_urgent_exchanges_begin_almost_at_once() -> None:
    pace = Pace()
    pace.begin(10.0)
    assert pace.earliest(10.0, early=True) < 10.005
    assert pace.earliest(10.0, urgent=True) < 10.005


def test_after_many_early_exchanges_only_urgent_ones_begin_before_the_interval() -> None:
    pace, now = Pace(), 0.0
    for _ in range(100):
        now = max(now, pace.earliest(now, early=True))
        pace.begin(now)
    assert pytest.approx(now + MOST_OFTEN) == pace.earliest(now, early=True)
    assert pace.earliest(now, urgent=True) <= now + 0.02
    assert pace.earliest(now + 60, early=True) <= now + 0.005


@given(MOMENTS)
def test_a_peer_without_urgent_reports_begins_15_exchanges_a_second_and_30_more(
    moments: list[tuple[float, bool, bool]],
) -> None:
    pace, now, begun = Pace(), 0.0, 0
    for pause, early, wants in moments:
        now += pause
        if wants and pace.earliest(now, early=early) <= now:
            pace.begin(now)
            begun += 1
    assert begun <= 31 + 1 + now / MOST_OFTEN


def window_at(rate: float, seconds: float = 3.0, interval: float = MOST_OFTEN) -> int:
    """The window of a peer that receives pieces at an even rate."""
    window = PieceWindow(4)
    for number in range(int(rate * seconds)):
        window.note(number / rate)
    return window.size(seconds, interval)


def test_the_window_is_the_number_of_downloads_until_pieces_arrive() -> None:
    assert 4 == PieceWindow(4).size(5.0, MOST_OFTEN)


@pytest.mark.parametrize(
    ("rate", "least", "most"),
    [(0.2, 4, 4), (5, 5, 5), (24, 7, 7), (30, 7, 8), (175, 22, 24), (1000, 100, 115)],
    ids=["1 in 5 s", "4 MiB at 160 Mbit/s", "256 KiB at 50 Mbit/s", "4 MiB at 1 Gbit/s", "4 MiB at 700 MiB/s", "fast"],
)
def test_the_window_grows_with_the_pieces_that_end_between_two_reports(rate: float, least: int, most: int) -> None:
    assert least <= window_at(rate) <= most


def test_a_buffer_that_empties_does_not_open_the_window() -> None:
    """A link that was idle may deliver its first pieces at once."""
    window = PieceWindow(4)
    for _ in range(4):
        window.note(1.0)
    assert window.size(1.001, MOST_OFTEN) <= 7


def test_the_window_shrinks_after_a_pause() -> None:
    window = PieceWindow(4)
    for number in range(200):
        window.note(number / 200)
    assert window.size(1.0, MOST_OFTEN) > 10
    assert 4 == window.size(3.0, MOST_OFTEN)


def test_longer_intervals_need_a_larger_window() -> None:
    assert window_at(100, interval=0.25) > window_at(100) > 4


def test_slow_pieces_count_over_several_intervals() -> None:
    """A peer that receives a piece in 0.7 s and reports every 3 s needs four more pieces, at any moment."""
    window = PieceWindow(4)
    for number in range(30):
        window.note(number * 0.7)
        assert number < 8 or window.size(number * 0.7 + 0.01, 3.0) in (8, 9)


def test_a_busy_supernode_gets_few_early_exchanges() -> None:
    """Thousands of peers without work must not ask again and again. Their answers would come too late for all peers."""
    pace, begun, now = Pace(), 0, 0.0
    pace.slow_down(3.0)
    while now < 60.0:
        now += 0.01
        if pace.earliest(now, early=True) <= now:
            pace.begin(now)
            begun += 1
    assert 60 / 3.0 <= begun <= 1.3 * 60 / 3.0 + 2
