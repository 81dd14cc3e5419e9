"""The nodes of an object with images, as the console shows them."""

from typing import Any

import pytest

from pantala_operator.control.details import Details
from pantala_operator.plan.nodes import Trouble
from pantala_operator.ports import SystemClock
from pantala_operator.watch.observation import Observation
from pantala_protocol import task_id
from pantala_protocol.console.progress import Inflow, NodeDownload, Progress, TaskProgressView
from pantala_protocol.console.views import NodePhase, NodeView
from pantala_protocol.reasons import Reason
from tests.support.prefetch import AMD64, ONE, ONLY_ONE, READY, World, failed, node, pending, world

SILENT = Trouble.of("NodeSilent", "No supernode hears from it", 5.0)


class KeptSnapshots:
    """Stands for the controller that keeps the newest plan of each object."""

    def __init__(self, it: World) -> None:
        self._it = it

    def snapshot(self, _uid: str) -> Any:
        return self._it.latest.snapshot if self._it.latest is not None else None


@pytest.fixture
def it() -> World:
    """Node a is ready, b failed, and c pulls."""

    def outcome(_image: str, name: str, _number: int) -> Any:
        return {"a": READY, "b": failed("NoSpace", "the disk is full")}.get(name)

    made = world(*map(node, "abc"), images=ONLY_ONE, outcome=outcome)
    made.turn(6)
    return made


def shown(it: World, known: Observation) -> dict[str, NodeView]:
    details = Details(known, None, KeptSnapshots(it), SystemClock())  # type: ignore[arg-type]
    return {each.name: each for each in details.nodes(it.each)}


def test_each_node_has_its_state(it: World) -> None:
    found = shown(it, Observation())
    assert ["Ready", "Failed", "Fetching"] == [found[name].state for name in "abc"]
    failure = found["b"]
    assert ("NoSpace", "the disk is full", Reason.NO_SPACE.action) == (failure.reason, failure.message, failure.action)


def test_rates_are_those_of_the_blobs(it: World) -> None:
    known, one = Observation(), it.registry[ONE].resolved.platforms[AMD64]
    blobs = [task_id.of_blob(blob.digest) for blob in one]
    flows = (Inflow("", 6, 4), Inflow("a", 2, 1))
    tasks = tuple(TaskProgressView(each, nodes=(NodeDownload("c", 8, 5, flows),)) for each in blobs)
    known.progress.on_progress("s", Progress("boot", 0.0, tasks), 1.0)
    node_c = shown(it, known)["c"]
    assert 5 * len(blobs) == node_c.rate
    assert [("supernode", 4 * len(blobs)), ("a", len(blobs))] == [(each.provider, each.rate) for each in node_c.flows]


def test_a_silent_node_is_late_and_a_failed_one_is_failed(it: World) -> None:
    it.troubles |= dict.fromkeys("abc", SILENT)
    it.plan()
    found = shown(it, Observation())
    assert [NodePhase.READY, NodePhase.FAILED, NodePhase.LATE] == [found[name].state for name in "abc"]
    assert ("NodeSilent", 5.0) == (found["c"].reason, found["c"].since)


def test_a_node_is_late_only_if_the_status_says_so() -> None:
    """Nothing runs, and a slow registry delays only the nodes that fetch its blob."""
    it = world(*map(node, "abc"), images=ONLY_ONE, outcome=pending, suspend=True)
    it.turn(4)
    it.troubles |= dict.fromkeys("abc", SILENT)
    it.plan()
    known, (blob, *_) = Observation(), it.registry[ONE].resolved.platforms[AMD64]
    slow = TaskProgressView(task_id.of_blob(blob.digest), reason="SourceSlow", message="slow", since=1.0)
    known.progress.on_progress("s", Progress("boot", 0.0, (slow,)), 1.0)
    assert () == it.each.status.late
    assert {"Waiting"} == {each.state.value for each in shown(it, known).values()}


def test_before_the_first_plan_there_are_no_nodes(it: World) -> None:
    it.latest = None
    assert {} == shown(it, Observation())
