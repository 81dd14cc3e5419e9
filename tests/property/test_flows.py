"""The rates of a download: their sum over time is the number of bytes, however these arrive."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_protocol.console.progress import WINDOW
from pantala_supernode.swarm.flows import FlowMeter, FlowTable

providers = st.sampled_from(["", "node-1", "node-2"])
arrivals = st.lists(st.tuples(st.floats(0.0, 40.0), providers, st.integers(1, 15 << 20)), min_size=1, max_size=60)


@given(arrivals, st.floats(0.0, 0.999))
def test_rates_that_are_read_once_a_second_add_up_to_the_bytes(
    arriving: list[tuple[float, str, int]], phase: float
) -> None:
    meter, waiting, read = FlowMeter(), sorted(arriving, reverse=True), dict[str, float]()
    for second in range(40 + WINDOW + 4):
        now = second + phase
        while waiting and waiting[-1][0] <= now:
            at, provider, amount = waiting.pop()
            meter.add(provider, amount, at)
        for provider, rate in meter.rates(now).items():
            read[provider] = read.get(provider, 0.0) + rate
    expected = dict[str, int]()
    for _, provider, amount in arriving:
        expected[provider] = expected.get(provider, 0) + amount
    assert expected == meter.sums
    assert expected == pytest.approx(read)
    assert meter.idle(now)


@given(st.lists(st.floats(0.9, 1.1), min_size=60, max_size=60), st.floats(0.5, 8.0), st.integers(1, 200))
def test_a_reader_that_is_never_punctual_reads_nearly_all_bytes(steps: list[float], every: float, amount: int) -> None:
    """The reader's own integral is the rate multiplied by the time since it read last."""
    meter, now, sent, total, read = FlowMeter(), 0.0, 0.0, 0, 0.0
    for step in steps:
        now += step
        while sent <= min(now, 40.0):
            meter.add("", amount, sent)
            total, sent = total + amount, sent + every / 10
        read += meter.rates(now).get("", 0.0) * step
    assert math.isclose(total, read, rel_tol=0.05)


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(1, 1000)), max_size=300))
def test_only_the_providers_with_the_most_bytes_are_kept(sent: list[tuple[int, int]]) -> None:
    meter = FlowMeter()
    for number, amount in sent:
        meter.add(f"node-{number}", amount, 0.0)
    assert len(meter.sums) <= 16


def test_a_meter_disappears_when_its_download_is_finished_and_the_rate_is_0() -> None:
    table = FlowTable()
    table.add("t", "a", "", 10, now=100.5)
    table.add("t", "b", "", 10, now=100.5)
    for now in (101.0, 106.9):
        table.expire(now, lambda task_id, node: False)
        assert [("t", "a"), ("t", "b")] == list(table)
    table.expire(107.0, lambda task_id, node: node == "b")
    assert [("t", "b")] == list(table)
    table.expire(107.0, lambda task_id, node: False)
    assert [] == list(table)


def test_the_pace_is_right_before_the_window_is_full() -> None:
    meter = FlowMeter()
    for number in range(100):
        meter.add("ab"[number % 2], 1000, 3.25 + number / 10)
        assert number < 20 or meter.pace(3.25 + number / 10) == pytest.approx(10_000, rel=0.15)
    assert 0.0 == meter.pace(100.0)
    meter.add("a", 1000, 100.0)
    assert 0.0 == meter.pace(101.9)
    assert 1000.0 == pytest.approx(meter.pace(102.0))


def test_a_rate_rises_and_falls_within_two_seconds_of_its_bytes() -> None:
    meter = FlowMeter()
    meter.add("", 5000, 10.0)
    rates = {now: meter.rates(now).get("", 0.0) for now in (10.9, 11.5, 12.0, 15.9, 16.5, 17.0)}
    assert {10.9: 0.0, 11.5: 500.0, 12.0: 1000.0, 15.9: 1000.0, 16.5: 500.0, 17.0: 0.0} == rates
