"""What one client may take of the supernode's memory and time."""

import pytest

from pantala_supernode.errors import LimitedError
from pantala_supernode.http.clients import MAX_EXCHANGE, ClientLimits


def test_h7_a_client_takes_a_quarter_of_the_time_after_a_burst() -> None:
    now, spent = [100.0], [0.0]
    limits = ClientLimits(lambda: now[0], lambda: spent[0])
    served = 0
    while now[0] < 200.0:
        if limits.wait("hostile"):
            now[0] += 0.125
            continue
        with limits.serving("hostile"):
            spent[0] += 0.5
            now[0] += 0.5
        served += 1
        assert 0.0 == limits.wait("honest") == limits.wait(None)
    assert 0.25 * 100 + 2 - 0.5 <= served * 0.5 <= 0.25 * 100 + 2 + 0.5


def test_h2_a_client_has_room_for_two_unfinished_exchanges() -> None:
    limits = ClientLimits()
    with limits.reserved("a", MAX_EXCHANGE), limits.reserved("a", MAX_EXCHANGE), limits.reserved("a", 1000):
        with pytest.raises(LimitedError, match="one request at a time"):
            limits.change("a", 0, MAX_EXCHANGE)
        limits.change("b", 0, MAX_EXCHANGE)
    limits.change("a", 0, MAX_EXCHANGE)
