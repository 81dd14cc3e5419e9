"""The nodes of a Task: their states, why some are late, and what the status says about them."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_operator.plan.explanation import causes
from pantala_operator.plan.nodes import MAX_NODES, TaskDownloads, TaskNodes, Trouble, listed, overdue
from pantala_operator.plan.targets import Targets
from pantala_operator.plan.task import plan
from pantala_operator.resources.conditions import find
from pantala_operator.resources.status import Obstacle
from pantala_protocol.console.progress import Inflow, NodeDownload
from pantala_protocol.console.views import NodePhase, NodeView
from pantala_protocol.reasons import Reason
from pantala_protocol.statement import CDNStatus, Failure
from tests.support.task_plans import ALL, FETCHING, NOW, PATHS, observe, report, statuses, task

SILENT = Trouble.of("NodeSilent", "No supernode hears from it", 1_700_000_000.0)
SLOW_SOURCE = Trouble.of("SourceSlow", "The origin sends 1Ki a second", 1_700_000_000.0)
RUN = "t" * 64
MIB = 1 << 20


def nodes(**changes: Any) -> TaskNodes:
    return TaskNodes(**{"desired": frozenset(ALL), "length": 100, **changes})


def states(views: Iterable[NodeView]) -> dict[str, str]:
    return {each.name: each.state.value for each in views}


def targets_of(names: tuple[str, ...]) -> Targets:
    return Targets(names, frozenset(names))


# The state of each node


def test_each_node_is_in_one_state() -> None:
    downloads = TaskDownloads(
        nodes={"b": NodeDownload("b", 40, 20, (Inflow("", 30, 10), Inflow("a", 10, 10)), pace=20)},
        troubles={"b": Trouble.of("NodeSlow", "slow", 5.0), "a": Trouble.of("NodeSlow", "slow", 5.0)},
        silent={"c": SILENT, "elsewhere": SILENT},
    )
    found = nodes(holders=frozenset("a"), downloads=downloads, active=2, zones={"b": "z"})
    a, b, c = found.views()
    assert ("a", NodePhase.READY, 100, "") == (a.name, a.state, a.bytes, a.reason)
    assert (NodePhase.LATE, "z", 3.0, "NodeSlow") == (b.state, b.zone, b.eta, b.reason)
    assert [("supernode", 30), ("a", 10)] == [(flow.provider, flow.bytes) for flow in b.flows]
    assert (NodePhase.LATE, Reason.NODE_SILENT.action) == (c.state, c.action)
    assert (3, 1, 0, 0, 2, 0) == msgspec.structs.astuple(found.counts)


def test_a_node_without_a_byte_waits() -> None:
    downloads = TaskDownloads(nodes={"a": NodeDownload("a"), "b": NodeDownload("b", 0, 5)})
    assert {"a": "Waiting", "b": "Fetching", "c": "Waiting"} == states(nodes(downloads=downloads).views())


def test_a_failed_node_is_not_late() -> None:
    found = nodes(
        failures=(Failure("NodeDiskFull", "full", peer="a"),), failing=1, downloads=TaskDownloads(silent={"a": SILENT})
    )
    assert {"a": "Failed", "b": "Waiting", "c": "Waiting"} == states(found.views())
    assert (0, 1) == (found.counts.late, found.counts.failed)


def test_after_its_time_a_node_has_failed() -> None:
    late = overdue(60, NOW, NOW + timedelta(seconds=60))
    assert overdue(60, NOW, NOW + timedelta(seconds=59)) is overdue(None, NOW, NOW) is None
    found = nodes(
        holders=frozenset("a"), overdue=late, young=frozenset("b"), downloads=TaskDownloads(silent={"c": SILENT})
    )
    assert {"a": "Ready", "b": "Waiting", "c": "Failed"} == states(found.views())
    assert ["NodeTimeout"] == [each.reason for each in found.failed.values()]


@given(*[st.sets(st.sampled_from("abcdef")).map(frozenset)] * 4, st.integers(0, 6), st.integers(0, 6), st.booleans())
def test_the_counts_add_up(
    desired: frozenset[str],
    holders: frozenset[str],
    late: frozenset[str],
    failed: frozenset[str],
    active: int,
    failing: int,
    over: bool,
) -> None:
    found = TaskNodes(
        desired,
        holders,
        tuple(Failure("NodeDiskFull", "full", peer=name) for name in failed),
        failing,
        active,
        TaskDownloads(silent=dict.fromkeys(late, SILENT)),
        SILENT if over else None,
    )
    _, *each = msgspec.structs.astuple(found.counts)
    assert len(desired) == sum(each)
    assert min(each) >= 0
    assert len(desired) == len(found.views())


def test_the_status_names_each_reason() -> None:
    late = {f"n{number:02}": SILENT for number in range(20)} | {"z": Trouble.of("NodeSlow", "slow", 0)}
    assert ["NodeSilent", "NodeSlow"] == sorted({each.reason for each in listed(late)})
    assert MAX_NODES == len(listed(late))


# The status


def test_a_late_node_is_in_the_conditions() -> None:
    observed = observe(report(ready_peers=("a", "b"), active=1), downloads=TaskDownloads(silent={"c": SILENT}))
    result = plan(task(), observed, PATHS, NOW)
    found = statuses(result)
    assert ("False", "NodeSilent") == found["Ready"] == found["Distributed"]
    assert ("True", "NodeSilent") == found["Reconciling"]
    ready = find(result.status.conditions, "Ready")
    assert ready is not None
    assert f"2 of 3 nodes have the file. c: {SILENT.message}. {Reason.NODE_SILENT.action}" == ready.message
    assert [("c", "NodeSilent", SILENT.text)] == [(each.node, each.reason, each.message) for each in result.status.late]
    assert result.status.peers is not None
    assert (1, 0, 0) == (result.status.peers.late, result.status.peers.waiting, result.status.peers.failed)


def test_late_and_failed_nodes_share_ten_places() -> None:
    names = tuple(f"n{number:02}" for number in range(30))
    failures = tuple(Failure("NodeDiskFull", "full", peer=name) for name in names[:10])
    observed = observe(
        report(ready_peers=(), failures=failures, failed_peers=10),
        targets=targets_of(names),
        downloads=TaskDownloads(silent=dict.fromkeys(names[10:], SILENT)),
    )
    status = plan(task(), observed, PATHS, NOW).status
    assert (5, 5) == (len(status.late), len(status.failures))


def test_a_slow_source_is_in_the_conditions() -> None:
    result = plan(task(), observe(FETCHING, downloads=TaskDownloads(source=SLOW_SOURCE)), PATHS, NOW)
    found = statuses(result)
    assert ("False", "SourceSlow") == found["Ready"] == found["Cached"]
    assert ("True", "SourceSlow") == found["Reconciling"]
    done = plan(task(), observe(report(ready_peers=()), downloads=TaskDownloads(source=SLOW_SOURCE)), PATHS, NOW)
    assert ("False", "Progressing") == statuses(done)["Ready"]


def test_a_suspended_task_has_no_late_node() -> None:
    observed = observe(report(ready_peers=()), downloads=TaskDownloads(silent={"c": SILENT}))
    assert () == plan(task(suspend=True), observed, PATHS, NOW).status.late


def test_no_node_is_late_with_a_task_that_cannot_start() -> None:
    """Nothing runs, so the metrics and the status must not blame a node."""
    observed = observe(report(ready_peers=()), downloads=TaskDownloads(silent={"c": SILENT}), excess=Obstacle("X", "x"))
    result = plan(task(), observed, PATHS, NOW)
    assert ((), {}) == (result.status.late, result.nodes.late)


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        (observe(), ""),
        (observe(report()), "100%"),
        (observe(report(), targets=targets_of(())), "0%"),
        (observe(msgspec.structs.replace(FETCHING, supernode_bytes=0, peer_bytes=0)), "6%"),
        (observe(report(ready_peers=("a",), supernode_bytes=0, peer_bytes=0)), "50%"),
        (observe(report(ready_peers=(), supernode_bytes=1 << 40)), "99%"),
        (observe(report(length=0, ready_peers=(), cdn_status=CDNStatus.RUNNING, pieces_total=0)), "0%"),
    ],
)
def test_the_progress_is_true(observed: Any, expected: str) -> None:
    assert expected == plan(task(), observed, PATHS, NOW).status.progress


def test_the_time_of_a_node_does_not_end_its_download() -> None:
    each = task(timeoutSecondsPerNode=60)
    first = plan(each, observe(report(ready_peers=("a",))), PATHS, NOW)
    assert NOW + timedelta(seconds=60) == first.wake_at
    each = msgspec.structs.replace(each, status=first.status)
    result = plan(each, observe(report(ready_peers=("a",))), PATHS, NOW + timedelta(seconds=60))
    found = statuses(result)
    assert ("False", "NodeTimeout") == found["Ready"]
    assert "True" == found["Reconciling"][0]
    assert ["b", "c"] == [failure.node for failure in result.status.failures]
    assert result.wanted is not None
    assert not result.wanted.suspended


def test_a_node_that_loses_the_file_has_its_whole_time_to_get_it_again() -> None:
    each, lost = task(timeoutSecondsPerNode=60), observe(report(ready_peers=("a", "b")))
    each = msgspec.structs.replace(each, status=plan(each, observe(report()), PATHS, NOW).status)
    assert plan(each, observe(report()), PATHS, NOW).wake_at is None
    later = NOW + timedelta(days=1)
    first = plan(each, lost, PATHS, later)
    assert ((), later + timedelta(seconds=60)) == (first.status.failures, first.wake_at)
    each = msgspec.structs.replace(each, status=first.status)
    assert () == plan(each, lost, PATHS, later + timedelta(seconds=59)).status.failures
    result = plan(each, lost, PATHS, later + timedelta(seconds=60))
    assert [("c", "NodeTimeout")] == [(failure.node, failure.reason) for failure in result.status.failures]


def test_the_task_is_planned_again_when_the_time_of_a_new_node_passes() -> None:
    each = task(timeoutSecondsPerNode=60)
    each = msgspec.structs.replace(each, status=plan(each, observe(report(ready_peers=("a",))), PATHS, NOW).status)
    now, ends = NOW + timedelta(seconds=100), NOW + timedelta(seconds=130)
    result = plan(each, observe(report(ready_peers=("a", "b")), young={"c": ends}), PATHS, now)
    assert ((), ends) == (result.status.failures, result.wake_at)


# Why a Task is not done


def test_a_cause_lasts_since_its_reason_and_not_since_the_condition() -> None:
    """The time of a condition is that of its status: False since the Task began."""
    result = plan(task(), observe(FETCHING, downloads=TaskDownloads(source=SLOW_SOURCE)), PATHS, NOW)
    later = NOW.timestamp() + 25
    for began, since in (({"SourceSlow": later}, later), ({}, NOW.timestamp())):
        (cause,) = causes(result.status.conditions, result.nodes.views(), began=began)
        assert ("SourceSlow", since) == (cause.reason, cause.since)
        assert f"The condition Cached is False since {NOW:%H:%M:%S}. Its reason is SourceSlow." in cause.evidence
        assert not any("Stalled is False" in each for each in cause.evidence)


def test_one_cause_for_each_reason() -> None:
    downloads = TaskDownloads(silent={"b": SILENT, "c": SILENT}, source=SLOW_SOURCE)
    result = plan(task(), observe(FETCHING, downloads=downloads), PATHS, NOW)
    found = causes(result.status.conditions, result.nodes.views(), source=SLOW_SOURCE, clocks={"a": 60})
    assert ["SourceSlow", "NodeSilent", "ClockSkewed"] == [each.reason for each in found]
    source, silent, clock = found
    assert Reason.SOURCE_SLOW.action == source.action
    assert source.action not in source.message
    assert (("b", "c"), f"b, and 1 more: {SILENT.message}") == (silent.nodes, silent.message)
    assert 2 == len(silent.evidence)
    assert ("The clock of a is 60 s ahead of the API server's clock.",) == clock.evidence


def test_nothing_is_in_the_way() -> None:
    for observed in (observe(), observe(FETCHING), observe(report()), observe(report(ready_peers=("a",)))):
        result = plan(task(), observed, PATHS, NOW)
        assert () == causes(result.status.conditions, result.nodes.views())


@pytest.mark.parametrize("reason", [Reason.SOURCE_UNAUTHORIZED, Reason.DIGEST_MISMATCH, Reason.VOLUME_FULL])
def test_a_failure_is_a_cause(reason: Reason) -> None:
    observed = observe(report(ready_peers=(), failure=Failure(reason.value, "it happened")))
    result = plan(task(), observed, PATHS, NOW)
    (cause,) = causes(result.status.conditions, result.nodes.views())
    assert (reason.value, reason.action) == (cause.reason, cause.action)
    assert cause.message.startswith("it happened")
