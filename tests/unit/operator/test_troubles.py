"""What delays nodes, as supernodes report it: silent, slow and late ones."""

from typing import Any

import msgspec
import pytest

from pantala_operator.plan.explanation import causes
from pantala_operator.plan.nodes import TaskDownloads, Trouble
from pantala_operator.plan.task import plan
from pantala_operator.supernodes.progress import ProgressStore
from pantala_operator.supernodes.slowness import SlowNodes
from pantala_protocol.console.progress import NodeDownload, Progress, SilentPeer, TaskProgressView
from pantala_protocol.reasons import Reason
from tests.support.task_plans import NOW, PATHS, observe, report, task

# The messages of supernodes

SILENT = Trouble.of("NodeSilent", "No supernode hears from it", 1_700_000_000.0)
RUN = "t" * 64
MIB = 1 << 20


def message(*downloads: NodeDownload, silent: tuple[SilentPeer, ...] = (), **task_fields: Any) -> Progress:
    return Progress("boot", 0.0, (TaskProgressView(RUN, nodes=downloads, **task_fields),), silent)


def test_a_reason_stays_five_seconds_and_goes_after_recovery() -> None:
    store = ProgressStore()
    full = NodeDownload("a", reason="NodeFilesExhausted", message="no handles", since=5.0)
    assert {RUN} == store.on_progress("s", message(full), 100.0)
    assert set() == store.on_progress("s", message(full), 101.0)
    assert set() == store.on_progress("s", message(NodeDownload("a")), 102.0)
    assert "NodeFilesExhausted" == store.downloads(RUN).troubles["a"].reason
    assert {RUN} == store.on_progress("s", message(NodeDownload("a")), 105.0)
    assert {} == store.downloads(RUN).troubles


def test_the_reasons_of_a_removed_supernode_go() -> None:
    store = ProgressStore()
    store.on_progress("s", message(NodeDownload("a", reason="NodeDiskFull", message="full", since=5.0)), 100.0)
    store.forget("s")
    assert ({}, set()) == (store.downloads(RUN).troubles, store.troubled)


@pytest.mark.parametrize("since", [-1e300, -1.0, 0.5, 1e300])
def test_a_wrong_time_of_a_supernode_does_no_harm(since: float) -> None:
    wrong = Trouble.of("NodeSilent", "silent", since)
    result = plan(task(), observe(report(ready_peers=()), downloads=TaskDownloads(silent={"c": wrong})), PATHS, NOW)
    assert 1970 <= wrong.begun.year <= 6400
    assert ["NodeSilent"] == [each.reason for each in causes(result.status.conditions, result.nodes.views())]


def test_the_advice_comes_once() -> None:
    store = ProgressStore()
    text = f"It is full. {Reason.NODE_DISK_FULL.action}"
    store.on_progress("s", message(NodeDownload("a", reason="NodeDiskFull", message=text)), 1.0)
    assert text == store.downloads(RUN).troubles["a"].text


def test_a_slow_source_is_no_node() -> None:
    store = ProgressStore()
    store.on_progress("s", message(reason="SourceSlow", message="slow", since=3.0, origin_rate=7), 1.0)
    found = store.downloads(RUN)
    assert found.source is not None
    assert (("SourceSlow", 3.0), 7, {}) == (found.source[0::3], found.origin_rate, found.troubles)


def test_the_bytes_of_a_task_are_known_after_its_end_and_from_all_supernodes() -> None:
    store = ProgressStore()
    assert store.moved(RUN) is None
    store.on_progress("s", message(NodeDownload("a"), origin_bytes=9, supernode_bytes=5, peer_bytes=2), 1.0)
    store.on_progress("r", message(NodeDownload("b"), origin_bytes=8, supernode_bytes=1, peer_bytes=3), 1.0)
    store.on_progress("s", Progress("boot", 2.0), 2.0)
    assert (9, 6, 5) == store.moved(RUN)


def test_the_troubles_of_several_tasks_are_joined() -> None:
    """An image has a task for each blob."""
    store, other = ProgressStore(), "o" * 64
    slow = TaskProgressView(RUN, 1, "SourceSlow", "slow", 3.0, (NodeDownload("a"), NodeDownload("b")))
    full = TaskProgressView(other, nodes=(NodeDownload("b", reason="NodeDiskFull", message="full"),))
    store.on_progress("s", Progress("boot", 0.0, (slow, full)), 1.0)
    store.on_silence({"c": SILENT}, 1.0)
    found = store.troubles_of((RUN, other, "missing"))
    assert {"a": "SourceSlow", "b": "NodeDiskFull", "c": "NodeSilent"} == {n: each.reason for n, each in found.items()}
    assert {"c"} == store.troubles_of(()).keys()


def test_a_slow_node_is_found_after_five_seconds() -> None:
    store, at = ProgressStore(), 0.0
    while at < 5:
        rates = {"a": 40 * MIB, "b": 44 * MIB, "c": 8 * MIB}
        store.on_progress("s", message(*(NodeDownload(name, 1, rate) for name, rate in rates.items())), at)
        assert {} == store.downloads(RUN).troubles
        at += 1
    assert {RUN} == store.on_progress("s", message(*(NodeDownload(n, 1, r) for n, r in rates.items())), at)
    assert {"c": "NodeSlow"} == {name: each.reason for name, each in store.downloads(RUN).troubles.items()}


def test_a_slow_node_is_compared_with_nodes_that_have_finished() -> None:
    store = ProgressStore()
    for second in range(4):
        fast = [NodeDownload(name, (second + 1) * 40 * MIB, 40 * MIB) for name in "ab"]
        store.on_progress("s", message(*fast, NodeDownload("c", (second + 1) * MIB, MIB)), float(second))
    for second in range(4, 30):
        store.on_progress("s", message(NodeDownload("c", (second + 1) * MIB, MIB)), float(second))
    assert {"c"} == store.downloads(RUN).troubles.keys()
    for second in range(30, 36):
        store.on_progress("s", message(NodeDownload("c", (second + 1) * MIB, 30 * MIB)), float(second))
    assert set() == store.downloads(RUN).troubles.keys()


def test_few_of_many_finished_nodes_are_remembered() -> None:
    slow = SlowNodes()
    for number in range(100):  # most are as slow as z, but the latest 40 are not
        rate = (1 if number < 60 else 40) * MIB
        nodes = NodeDownload("z", MIB, MIB), NodeDownload(f"n{number}", rate, rate)
        found = list(slow.update(TaskProgressView(RUN, nodes=nodes), number / 2))
    assert ["z"] == [name for name, _ in found]


def test_two_nodes_are_not_compared() -> None:
    store = ProgressStore()
    for second in range(10):
        store.on_progress("s", message(NodeDownload("a", 1, 40 * MIB), NodeDownload("b", 1, 1)), float(second))
    assert {} == store.downloads(RUN).troubles


def test_a_peer_that_one_supernode_does_not_hear_is_late_with_the_tasks_of_that_one() -> None:
    store, other = ProgressStore(), "u" * 64
    here = Progress("boot", 0.0, (TaskProgressView(RUN, nodes=(NodeDownload("a"),)),), (SilentPeer("a", 4.0),))
    there = Progress("boot", 0.0, (TaskProgressView(other, nodes=(NodeDownload("a"),)),))
    for name, said in (("s-0", here), ("s-1", there)):
        store.on_progress(name, said, 0)
    assert {"a"} == store.on_silence({"a": SILENT}, 0)
    assert ({"a"}, set()) == (store.downloads(RUN).silent.keys(), store.downloads(other).silent.keys())
    store.on_progress("s-1", msgspec.structs.replace(there, silent=here.silent), 1)
    assert {"a"} == store.on_silence({"a": SILENT}, 1)
    assert {"a"} == store.downloads(RUN).silent.keys() == store.downloads(other).silent.keys()
    for name in ("s-0", "s-1"):
        store.on_progress(name, there, 9)
    assert {"a"} == store.on_silence({}, 9)
    assert {} == store.downloads(RUN).silent


def test_a_silent_peer_that_still_gets_bytes_is_not_late() -> None:
    store = ProgressStore()
    store.on_progress("s", message(NodeDownload("a", 1, 0), NodeDownload("b", 1, 9), silent=(SilentPeer("a", 4.0),)), 0)
    assert {"a": 4.0} == store.quiet
    assert {"a", "b"} == store.on_silence({"a": SILENT, "b": SILENT}, 0)
    assert {"a"} == store.downloads(RUN).silent.keys()
    assert set() == store.on_silence({}, 4.0)
    assert {"a", "b"} == store.on_silence({}, 5.0)
