"""The short form of each row of the fault suite. ``make faults`` runs the full form."""

import pytest

from faults.__main__ import measured
from faults.catalog import ROWS

pytestmark = pytest.mark.timeout(300)


def short(name: str) -> None:
    """Run a row as often as ``make test`` does. No promise may be broken, and something must be injected."""
    row = ROWS[name]
    if (why := row.lacks()) is not None:
        pytest.skip(why)
    tally = measured(row, row.short, seed=1)
    assert [] == tally.violations
    assert row.short <= tally.counts[row.unit]


@pytest.mark.alone
def test_f1_a_killed_supernode_reads_nothing_again() -> None:
    short("kills-supernode")


@pytest.mark.alone
def test_f1_a_killed_peer_fetches_nothing_again() -> None:
    short("kills-peer")


def test_f2_a_power_cut_loses_no_acknowledged_piece() -> None:
    short("power-cuts")


def test_f4_an_origin_with_composed_faults_never_gives_wrong_bytes() -> None:
    short("origin-programs")


def test_f5_flipped_bits_of_an_origin_are_never_delivered() -> None:
    short("flips-at-origins")


def test_f7_flipped_bits_on_the_wire_are_never_delivered() -> None:
    short("flips-on-the-wire")


def test_t4_hostile_peers_harm_no_honest_one() -> None:
    short("hostile-peers")


def test_f18_a_stampede_reads_the_origin_once() -> None:
    short("stampedes")


def test_f9_each_side_of_a_partition_reads_the_origin_at_most_once() -> None:
    short("partitions")


def test_f15_clocks_may_be_wrong_and_jump() -> None:
    short("clock-jumps")


@pytest.mark.alone
def test_f3_a_full_volume_gets_room_and_goes_on() -> None:
    short("full-volumes")


@pytest.mark.alone
def test_f3_a_full_node_gets_room_and_goes_on() -> None:
    short("full-nodes")


@pytest.mark.alone
def test_t9_slow_sockets_hold_up_nothing() -> None:
    short("slow-sockets")


def test_f21_flipped_bits_on_the_disk_are_never_delivered() -> None:
    short("flips-on-disk")


def test_f11_events_may_be_lost_repeated_and_old() -> None:
    short("api-events")


@pytest.mark.alone
def test_h7_a_flooding_tenant_holds_up_no_other_one() -> None:
    short("flooding-tenants")
