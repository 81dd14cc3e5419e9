"""The short form of each row of the fault suite. ``make faults`` runs the full form."""

import pytest

from faults.__main__ import measured
from faults.catalog import ROWS


def short(name: str) -> None:
    """Run a row as often as ``make test`` does. No promise may be broken, and something must be injected."""
    row = ROWS[name]
    if (why := row.lacks()) is not None:
        pytest.skip(why)
    tally = measured(row, row.short, seed=1)
    assert [] == tally.violations
    assert row.short <= tally.counts[row.unit]


def test_f1_a_killed_supernode_reads_nothing_again() -> None:
    short("kills-supernode")


def test_f1_a_killed_peer_fetches_nothing_again() -> None:
    short("kills-peer")


def test_f2_a_power_cut_loses_no_acknowledged_piece() -> None:
    short("power-cuts")
