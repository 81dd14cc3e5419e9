"""The nodes that get a file, the plan of a Peer resource, and the conditions of all resources."""

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_operator.plan.nodes import Trouble
from pantala_operator.plan.peer import ObservedPeer, PeerPlan, notices, plan
from pantala_operator.plan.targets import PeerState, choose
from pantala_operator.resources import conditions
from pantala_operator.resources.api import Metadata, Node, NodeSpec, PeerCache, PeerResource, PeerStatus, Target
from pantala_operator.resources.conditions import (
    MAX_MESSAGE,
    Condition,
    ConditionStatus,
    ConditionType,
    Verdict,
    differ,
    merge,
)
from pantala_protocol.reasons import Reason
from pantala_protocol.rules.selection import Taint, Toleration
from pantala_protocol.statement import PeerReport

CONNECTED = PeerState(connected=True)
CORDON = Taint("node.kubernetes.io/unschedulable", "NoSchedule")
UNREACHABLE = Taint("node.kubernetes.io/unreachable", "NoExecute")
GPU = Taint("gpu", "NoSchedule", "yes")


def node(name: str, *taints: Taint, cordoned: bool = False, **labels: str) -> Node:
    return Node(Metadata(name, labels=labels), NodeSpec(taints, cordoned))


def nodes(*items: Node) -> dict[str, Node]:
    return {item.metadata.name: item for item in items}


def chosen(target: Target, *items: Node, holders: frozenset[str] = frozenset(), **peers: PeerState) -> tuple[str, ...]:
    known = {item.metadata.name: CONNECTED for item in items} | peers
    return choose(target, "uid", nodes(*items), known, holders).wanted


def test_without_a_target_every_node_with_a_peer() -> None:
    cluster = nodes(node("a"), node("b"), node("c"))
    targets = choose(Target(), "uid", cluster, {"a": CONNECTED, "b": CONNECTED, "gone": CONNECTED}, frozenset())
    assert (("a", "b"), frozenset("ab")) == (targets.wanted, targets.desired)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Target(node_selector={"disk": "ssd"}), ("a", "b")),
        (Target(node_selector={"disk": "ssd", "zone": "1"}), ("a",)),
        (Target(names=("b", "nobody")), ("b",)),
        (Target(names=("c",), node_selector={"disk": "ssd"}), ()),
        (Target(percentage=50), 2),
        (Target(percentage=1), 1),
        (Target(percentage=100), ("a", "b", "c")),
        (Target(count=2), 2),
        (Target(count=9), ("a", "b", "c")),
    ],
)
def test_selection(target: Target, expected: tuple[str, ...] | int) -> None:
    soft = Taint("soft", "PreferNoSchedule")
    found = chosen(target, node("a", disk="ssd", zone="1"), node("b", disk="ssd"), node("c", soft))
    assert expected == (found if isinstance(expected, tuple) else len(found))


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        (Toleration("gpu", "Equal", "yes", "NoSchedule"), True),
        (Toleration("gpu", "Equal", "no"), False),
        (Toleration("gpu", "Exists"), True),
        (Toleration("", "Exists"), True),
        (Toleration("gpu", "Exists", effect="NoExecute"), False),
        (Toleration("other", "Exists"), False),
    ],
)
def test_tolerations_are_those_of_pods(toleration: Toleration, tolerated: bool) -> None:
    assert () == chosen(Target(), node("a", GPU))
    assert (("a",) if tolerated else ()) == chosen(Target(tolerations=(toleration,)), node("a", GPU))


@pytest.mark.parametrize(
    ("closed", "peer"),
    [
        (node("a", CORDON), CONNECTED),
        (node("a", cordoned=True), CONNECTED),
        (node("a", GPU), CONNECTED),
        (node("a"), PeerState(connected=True, unschedulable=True)),
    ],
)
def test_a_closed_node_or_peer_keeps_its_files_and_gets_no_others(closed: Node, peer: PeerState) -> None:
    assert () == chosen(Target(), closed, a=peer)
    assert ("a",) == chosen(Target(), closed, holders=frozenset({"a"}), a=peer)


def test_an_unreachable_node_keeps_its_file_but_is_not_waited_for() -> None:
    cluster = nodes(node("a"), node("b", UNREACHABLE))
    peers = {"a": CONNECTED, "b": PeerState(connected=False)}
    targets = choose(Target(), "uid", cluster, peers, frozenset())
    assert (("a", "b"), frozenset("a")) == (targets.wanted, targets.desired)
    targets = choose(Target(), "uid", cluster, peers, frozenset({"b"}))
    assert {"a", "b"} == targets.desired


def test_a_cordoned_node_without_its_peer_may_have_the_file() -> None:
    """Operator, supernode and peers may restart at the same time. Then the holders are not known."""
    targets = choose(Target(), "uid", nodes(node("a", CORDON)), {"a": PeerState()}, frozenset())
    assert (("a",), frozenset()) == (targets.wanted, targets.desired)


def test_a_limit_prefers_nodes_with_the_file_then_reachable_nodes() -> None:
    cluster = [node(name) for name in "abcdef"]
    for holder in "abcdef":
        assert (holder,) == chosen(Target(count=1), *cluster, holders=frozenset({holder}))
    ill = [node("a"), *(node(name, UNREACHABLE) for name in "bcdef")]
    assert ("a",) == chosen(Target(count=1), *ill)


@pytest.mark.parametrize(
    ("target", "known", "says"),
    [
        (Target(names=("z",)), {"a": CONNECTED}, "None of the cluster's 1 node matches"),
        (Target(), {}, "no peer runs there"),
        (Target(), {"a": PeerState(connected=True, unschedulable=True)}, "exclude them"),
    ],
)
def test_the_reason_why_no_node_is_chosen(target: Target, known: dict[str, PeerState], says: str) -> None:
    assert says in choose(target, "uid", nodes(node("a")), known, frozenset()).why_none


NAMES = st.frozensets(st.sampled_from("abcdefgh"))


@given(NAMES, NAMES, st.integers(1, 9), st.randoms())
def test_nothing_else_is_considered(here: frozenset[str], holders: frozenset[str], count: int, order: Random) -> None:
    """Neither on the order in which nodes became known nor on what was chosen before; holders come first."""
    names = sorted(here)
    order.shuffle(names)
    one = chosen(Target(count=count), *(node(name) for name in sorted(here)), holders=holders)
    assert one == chosen(Target(count=count), *(node(name) for name in names), holders=holders)
    assert min(count, len(here)) == len(one)
    assert min(count, len(here & holders)) == len(set(one) & holders)


@given(NAMES, st.integers(1, 8))
def test_a_new_node_moves_at_most_one(here: frozenset[str], count: int) -> None:
    before = set(chosen(Target(count=count), *(node(name) for name in here)))
    after = set(chosen(Target(count=count), *(node(name) for name in here | {"new"})))
    assert len(before - after) <= 1


NOW = datetime(2026, 1, 1, tzinfo=UTC)
CONNECTED_REPORT = PeerReport("n", True, "fd00::1", 65002, "z", "0.1", 10, 2, 1, 5, 6)
LOST_REPORT = PeerReport("n", False)
PEER = PeerResource(Metadata("n", uid="u", generation=2))


def planned(there: PeerResource | None, report: PeerReport | None, **changes: Any) -> PeerPlan:
    return plan(there, ObservedPeer(report, **{"reconnected": True, **changes}), NOW)


def status(there: PeerResource, report: PeerReport | None, **changes: Any) -> PeerStatus:
    found = planned(there, report, **changes).status
    assert found is not None
    return found


def test_a_connected_peer_gets_its_resource_once_its_node_exists() -> None:
    assert PeerPlan(create=True) == planned(None, CONNECTED_REPORT)
    assert (
        PeerPlan()
        == planned(None, CONNECTED_REPORT, on_node=False)
        == planned(None, LOST_REPORT)
        == planned(None, None)
    )


@pytest.mark.parametrize(
    ("ahead", "expected", "says"),
    [
        (5, ("True", "Synchronized"), "agrees"),
        (-5, ("True", "Synchronized"), "agrees"),
        (37, ("False", "ClockSkewed"), "37 s ahead of the API server's clock. Synchronise the node's clock"),
        (-3600, ("False", "ClockSkewed"), "3600 s behind the API server's clock. Synchronise the node's clock"),
    ],
)
def test_m5_a_peer_says_how_wrong_its_clock_is(ahead: int, expected: tuple[str, str], says: str) -> None:
    plan = planned(PEER, msgspec.structs.replace(CONNECTED_REPORT, clock_ahead=ahead))
    assert plan.status is not None
    found = conditions.find(plan.status.conditions, "ClockSynchronized")
    assert found is not None
    assert expected == (found.status, found.reason)
    assert says in found.message


def test_m5_a_clock_that_is_not_known_has_no_condition() -> None:
    """A peer of the former minor version does not report its time."""
    plan = planned(PEER, CONNECTED_REPORT)
    assert plan.status is not None
    assert conditions.find(plan.status.conditions, "ClockSynchronized") is None


def test_a_peer_is_deleted_with_its_node() -> None:
    assert PeerPlan(delete=True) == planned(PEER, CONNECTED_REPORT, on_node=False)


@pytest.mark.parametrize(
    ("report", "away", "expected"),
    [
        (CONNECTED_REPORT, "", ("True", "Connected")),
        (LOST_REPORT, "", ("False", "Disconnected")),
        (None, "", ("False", "Disconnected")),
        (CONNECTED_REPORT, "timeout", ("Unknown", "SupernodeUnavailable")),
    ],
)
def test_ready(report: PeerReport | None, away: str, expected: tuple[str, str]) -> None:
    conditions = status(PEER, report, away=away).conditions
    assert [(*expected, 2)] == [(each.status, each.reason, each.observed_generation) for each in conditions]


def test_a_silent_peer_says_why_and_announces_it() -> None:
    connected = msgspec.structs.replace(PEER, status=status(PEER, CONNECTED_REPORT))
    silence = Trouble.of("NodeCutOff", "No supernode hears from it", 0)
    cut_off = status(connected, CONNECTED_REPORT, silence=silence).conditions
    (ready,) = cut_off
    assert ("False", "NodeCutOff") == (ready.status, ready.reason)
    assert f"No supernode hears from it. {Reason.NODE_CUT_OFF.action}" == ready.message
    assert [(True, "NodeCutOff")] == [each[:2] for each in notices(connected.status.conditions, cut_off)]
    assert [] == list(notices(cut_off, cut_off))
    assert [(False, "Connected")] == [each[:2] for each in notices(cut_off, connected.status.conditions)]


def test_the_zone_of_the_node_counts() -> None:
    """A kubelet before Kubernetes 1.35 does not give it to the peer."""
    assert "eu-1" == status(PEER, msgspec.structs.replace(CONNECTED_REPORT, zone=""), zone="eu-1").zone
    assert "z" == status(PEER, CONNECTED_REPORT).zone


def test_peers_have_time_to_come_back_to_a_supernode_that_restarted() -> None:
    assert PeerPlan() == planned(PEER, None, reconnected=False)


def test_the_last_report_stays_after_a_disconnect() -> None:
    first = status(PEER, CONNECTED_REPORT)
    assert ("[fd00::1]:65002", PeerCache(10, 2, "10"), 1) == (first.address, first.cache, first.uploads)
    lost = status(msgspec.structs.replace(PEER, status=first), LOST_REPORT)
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


def test_long_messages_are_cut() -> None:
    (condition,) = merge((), verdict(ConditionStatus.FALSE, message="x" * 50_000), 1, NOW)
    assert (MAX_MESSAGE, "…") == (len(condition.message.encode()), condition.message[-1])


def test_which_changes_are_written_at_once() -> None:
    """A message alone may wait."""
    base = Condition("Ready", "False", "R", "1 of 3", NOW, 1)
    assert not differ([base], [Condition("Ready", "False", "R", "2 of 3", LATER, 1)])
    assert differ([base], [Condition("Ready", "True", "R", "1 of 3", NOW, 1)])
    assert differ([base], [Condition("Ready", "False", "S", "1 of 3", NOW, 1)])
    assert differ([base], [Condition("Ready", "False", "R", "1 of 3", NOW, 2)])
    assert differ([], [base])
