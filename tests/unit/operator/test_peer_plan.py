"""The plan of one Peer resource."""

from datetime import UTC, datetime

import msgspec
import pytest

from pantala_operator.plan.peer import PeerPlan, plan
from pantala_operator.resources.api import Metadata, PeerCache, PeerResource
from pantala_protocol.statement import PeerReport

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CONNECTED = PeerReport("n", True, "fd00::1", 65002, "z", "0.1", 10, 2, 1, 5, 6)
LOST = PeerReport("n", False)
PEER = PeerResource(Metadata("n", uid="u", generation=2))


def test_a_connected_peer_gets_its_resource_once_its_node_exists() -> None:
    told = {"reconnected": True, "away": "", "now": NOW}
    assert PeerPlan(create=True) == plan(None, CONNECTED, on_node=True, **told)  # type: ignore[arg-type]
    assert PeerPlan() == plan(None, CONNECTED, on_node=False, **told)  # type: ignore[arg-type]
    assert PeerPlan() == plan(None, LOST, on_node=True, **told)  # type: ignore[arg-type]
    assert PeerPlan() == plan(None, None, on_node=True, **told)  # type: ignore[arg-type]


def test_a_peer_is_deleted_with_its_node() -> None:
    assert PeerPlan(delete=True) == plan(PEER, CONNECTED, on_node=False, reconnected=True, away="", now=NOW)


@pytest.mark.parametrize(
    ("report", "reconnected", "away", "expected"),
    [
        (CONNECTED, True, "", ("True", "Connected")),
        (LOST, True, "", ("False", "Disconnected")),
        (None, True, "", ("False", "Disconnected")),
        (CONNECTED, True, "timeout", ("Unknown", "SupernodeUnavailable")),
    ],
)
def test_ready(report: PeerReport | None, reconnected: bool, away: str, expected: tuple[str, str]) -> None:
    status = plan(PEER, report, on_node=True, reconnected=reconnected, away=away, now=NOW).status
    assert status is not None
    assert [(*expected, 2)] == [(each.status, each.reason, each.observed_generation) for each in status.conditions]


def test_peers_have_time_to_come_back_to_a_supernode_that_restarted() -> None:
    assert PeerPlan() == plan(PEER, None, on_node=True, reconnected=False, away="", now=NOW)


def test_the_last_report_stays_after_a_disconnect() -> None:
    first = plan(PEER, CONNECTED, on_node=True, reconnected=True, away="", now=NOW).status
    assert first is not None
    assert ("[fd00::1]:65002", PeerCache(10, 2), 1) == (first.address, first.cache, first.uploads)
    there = msgspec.structs.replace(PEER, status=first)
    lost = plan(there, LOST, on_node=True, reconnected=True, away="", now=NOW).status
    assert lost is not None
    assert (first.address, first.cache, 0) == (lost.address, lost.cache, lost.uploads)
