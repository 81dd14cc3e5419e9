"""The plan of a Peer resource, and the conditions of all resources."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from pantala_operator.plan.peer import PeerPlan, plan
from pantala_operator.resources.api import Metadata, PeerCache, PeerResource, PeerStatus
from pantala_operator.resources.conditions import (
    MAX_MESSAGE,
    Condition,
    ConditionStatus,
    ConditionType,
    Verdict,
    differ,
    is_true,
    merge,
)
from pantala_protocol.statement import PeerReport

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CONNECTED = PeerReport("n", True, "fd00::1", 65002, "z", "0.1", 10, 2, 1, 5, 6)
LOST = PeerReport("n", False)
PEER = PeerResource(Metadata("n", uid="u", generation=2))


def planned(
    there: PeerResource | None,
    report: PeerReport | None,
    *,
    on_node: bool = True,
    reconnected: bool = True,
    away: str = "",
) -> PeerPlan:
    return plan(there, report, on_node=on_node, reconnected=reconnected, away=away, now=NOW)


def status(there: PeerResource, report: PeerReport | None, **changes: Any) -> PeerStatus:
    found = planned(there, report, **changes).status
    assert found is not None
    return found


def test_a_connected_peer_gets_its_resource_once_its_node_exists() -> None:
    assert PeerPlan(create=True) == planned(None, CONNECTED)
    assert PeerPlan() == planned(None, CONNECTED, on_node=False) == planned(None, LOST) == planned(None, None)


def test_a_peer_is_deleted_with_its_node() -> None:
    assert PeerPlan(delete=True) == planned(PEER, CONNECTED, on_node=False)


@pytest.mark.parametrize(
    ("report", "away", "expected"),
    [
        (CONNECTED, "", ("True", "Connected")),
        (LOST, "", ("False", "Disconnected")),
        (None, "", ("False", "Disconnected")),
        (CONNECTED, "timeout", ("Unknown", "SupernodeUnavailable")),
    ],
)
def test_ready(report: PeerReport | None, away: str, expected: tuple[str, str]) -> None:
    conditions = status(PEER, report, away=away).conditions
    assert [(*expected, 2)] == [(each.status, each.reason, each.observed_generation) for each in conditions]


def test_peers_have_time_to_come_back_to_a_supernode_that_restarted() -> None:
    assert PeerPlan() == planned(PEER, None, reconnected=False)


def test_the_last_report_stays_after_a_disconnect() -> None:
    first = status(PEER, CONNECTED)
    assert ("[fd00::1]:65002", PeerCache(10, 2), 1) == (first.address, first.cache, first.uploads)
    lost = status(msgspec.structs.replace(PEER, status=first), LOST)
    assert (first.address, first.cache, 0) == (lost.address, lost.cache, lost.uploads)


LATER = NOW + timedelta(minutes=1)


def verdict(status: ConditionStatus, reason: str = "R", message: str = "m") -> dict[ConditionType, Verdict]:
    return {ConditionType.READY: Verdict(status, reason, message)}


def test_the_transition_time_moves_with_the_status_only() -> None:
    first = merge((), verdict(ConditionStatus.FALSE), 1, NOW)
    same = merge(first, verdict(ConditionStatus.FALSE, "Other", "other"), 1, LATER)
    assert [NOW] == [each.last_transition_time for each in same]
    assert ["Other"] == [each.reason for each in same]
    changed = merge(same, verdict(ConditionStatus.TRUE), 1, LATER)
    assert [LATER] == [each.last_transition_time for each in changed]


def test_every_condition_is_stamped_with_the_generation_though_nothing_changed() -> None:
    first = merge((), verdict(ConditionStatus.TRUE), 1, NOW)
    assert [2] == [each.observed_generation for each in merge(first, verdict(ConditionStatus.TRUE), 2, LATER)]


def test_long_messages_are_cut() -> None:
    (condition,) = merge((), verdict(ConditionStatus.FALSE, message="x" * 5000), 1, NOW)
    assert (MAX_MESSAGE, "…") == (len(condition.message), condition.message[-1])


def test_which_changes_are_written_at_once() -> None:
    """A message alone may wait."""
    base = Condition("Ready", "False", "R", "1 of 3", NOW, 1)
    assert not differ([base], [Condition("Ready", "False", "R", "2 of 3", LATER, 1)])
    assert differ([base], [Condition("Ready", "True", "R", "1 of 3", NOW, 1)])
    assert differ([base], [Condition("Ready", "False", "S", "1 of 3", NOW, 1)])
    assert differ([base], [Condition("Ready", "False", "R", "1 of 3", NOW, 2)])
    assert differ([], [base])


def test_an_absent_condition_is_not_true() -> None:
    assert not is_true((), "Ready")
    assert is_true(merge((), verdict(ConditionStatus.TRUE), 1, NOW), "Ready")
    assert not is_true(merge((), verdict(ConditionStatus.UNKNOWN), 1, NOW), "Ready")
