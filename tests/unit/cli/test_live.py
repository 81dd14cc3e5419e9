"""``top``, ``explain`` and ``get -o wide`` with the console's messages."""

import json
import socket

import msgspec
import pytest

from pantala_cli.show import bars, explanation, tables
from pantala_protocol.console.views import NodePhase, NodeView, TaskDetail
from tests.support.cli import Command, FakeConsole, rendered, swarm


def test_top_once_shows_tasks_and_unfinished_nodes_by_source(command: Command, console: FakeConsole) -> None:
    code, out, err = command("top", "--once", "--console", console.url)
    assert (0, "") == (code, err)
    assert "origin -  supernode 10Mi/s  peers 30Mi/s  saved 1.5Gi  4 peers" == out.splitlines()[0]
    task, late, failed = (next(line for line in out.splitlines() if word in line) for word in ("model", "-c", "-d"))
    assert ["default/model", "50%", "2.5Gi,", "1Gi", "each", "-", "10Mi/s", "30Mi/s", "75s"] == task.split()[:9]
    assert late.split()[-2:] == ["Late:", "NodeSilent"]
    assert failed.split()[-2:] == ["Failed:", "NodeDiskFull"]
    assert "node-a" not in out, "a ready node needs no line"
    assert ["/api/v1/console?unfinished=true&limit=100", "/api/v1/console/tasks/default/model"] == console.asked


def test_top_of_one_task_and_of_a_namespace(command: Command, console: FakeConsole) -> None:
    assert 0 == command("top", "task/model", "--once", f"--console={console.url}")[0]
    assert "unfinished" not in console.asked[0]
    code, _, err = command("top", "image/model", "--once", f"--console={console.url}")
    assert (1, True) == (code, "ImagePrefetch model is not known to the console" in err)
    command("-n", "team", "top", "--once", f"--console={console.url}")
    assert "namespace=team" in console.asked[-2]


def test_top_of_nodes_shows_the_busiest_first(command: Command, console: FakeConsole) -> None:
    _, out, _ = command("top", "nodes", "--once", "--console", console.url)
    assert ["node-b", "40Mi/s", "-"] == out.splitlines()[2].split()[:3]


def test_a_program_reads_samples_as_json(command: Command, console: FakeConsole) -> None:
    code, out, _ = command("top", "--once", "-o", "json", "--console", console.url)
    sample = json.loads(out)
    assert (0, 10 << 20) == (code, sample["console"]["traffic"]["supernode_rate"])
    assert ["node-a", "node-b", "node-c", "node-d"] == [node["name"] for node in sample["details"][0]["nodes"]]


def test_explain_names_each_cause_once_with_evidence_and_the_next_step(command: Command, console: FakeConsole) -> None:
    code, out, err = command("explain", "task/model", "-n", "default", "--console", console.url)
    assert (0, "") == (code, err)
    assert "Task default/model: not ready (NodeSilent)" == out.splitlines()[0]
    for fact in ("1. NodeSilent on node-c", "- It last exchanged 20 s ago.", "next: Check that the node runs."):
        assert 1 == out.count(fact), out
    assert "The Task was created." in out


def test_explain_of_one_node(command: Command, console: FakeConsole) -> None:
    _, out, _ = command("explain", "task", "model", "--node", "node-d", "-n", "default", "--console", console.url)
    assert ("NodeDiskFull" in out, "NodeSilent on" in out) == (True, False)
    _, out, _ = command("explain", "model", "--node", "node-z", "-n", "default", "--console", console.url)
    assert "Node node-z does not belong to this Task." in out


def test_explain_of_a_ready_task_says_that_nothing_is_missing() -> None:
    _, detail = swarm()
    done = msgspec.structs.replace(detail.task, ready="True", reason="Distributed", progress=1.0)
    assert "Nothing is missing." in rendered(explanation.explain(TaskDetail(done), 1200.0))


def test_explain_without_the_console_reads_the_resource(command: Command) -> None:
    """The scripted cluster has no operator."""
    code, out, err = command("explain", "task/model")
    assert (0, 1) == (code, err.count("\n"))
    assert "uses only the resource's status" in err
    for fact in ("not ready (Progressing)", "1 of 2 nodes", "node-9", "NodeDiskFull"):
        assert fact in out
    assert "secret" not in out


def test_a_console_that_does_not_answer_is_code_3(command: Command) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        code, _, err = command("top", "--once", "--console", f"127.0.0.1:{unused.getsockname()[1]}")
    assert (3, 1) == (code, err.count("\n"))
    assert "console does not answer" in err


def test_bars_show_at_most_ten_nodes() -> None:
    console, detail = swarm()
    nodes = tuple(NodeView(f"n{number}", NodePhase.WAITING) for number in range(25))
    details = {bars.key(detail.task): msgspec.structs.replace(detail, nodes=nodes)}
    shown = rendered(bars.tasks(console, details, most=10, screen=160))
    assert ("n18" in shown, "... and 15 more nodes" in shown) == (False, True)


def test_a_table_of_nodes_names_the_providers() -> None:
    _, detail = swarm()
    shown = rendered(tables.progress_of_nodes(detail.nodes, detail.task.length, 1200.0))
    assert "supernode 10Mi/s, node-a 30Mi/s" in shown


@pytest.mark.parametrize("screen", [0, 60, 100, 200])
def test_names_on_a_live_screen_are_whole(screen: int) -> None:
    """A name that is too long continues on the next line. A wide screen has bars."""
    console, detail = swarm()
    name = "ip-10-20-30-1.eu-central-1.compute.internal.example"
    nodes = (NodeView(name, NodePhase.FETCHING, bytes=1 << 29),)
    details = {bars.key(detail.task): msgspec.structs.replace(detail, nodes=nodes)}
    shown = rendered(bars.tasks(console, details, most=10, screen=screen), screen or 1000)
    width = next(line.index("DONE") for line in shown.splitlines() if "DONE" in line)
    column = "".join(line[:width] for line in shown.splitlines()[1:])
    assert name in (column.replace(" ", "") if screen == 60 else shown)
    assert (screen == 200) == ("━" in shown)


def test_a_narrow_screen_shows_the_whole_reason() -> None:
    console, _ = swarm()
    (first, *_) = console.tasks
    failing = msgspec.structs.replace(first, name="a-model-with-a-long-name", reason="SourceRefused", length=None)
    shown = rendered(bars.tasks(msgspec.structs.replace(console, tasks=(failing,)), {}, most=10, screen=60), 60)
    assert "SourceRefused" in shown


def test_an_unknown_length_shows_only_the_bytes() -> None:
    console, detail = swarm()
    task = msgspec.structs.replace(detail.task, length=None)
    details = {bars.key(task): msgspec.structs.replace(detail, task=task)}
    shown = rendered(bars.tasks(msgspec.structs.replace(console, tasks=(task,)), details, most=10))
    assert " each" not in shown
    assert "/-" not in shown


def test_ui_and_explain_without_an_answer_of_the_console(command: Command) -> None:
    """``ui`` is an error. ``explain`` says what the resource says."""
    code, out, err = command("ui", "--no-browser", "--console=http://127.0.0.1:1")
    assert (3, "", True) == (code, out, "does not answer" in err)
    for flags in ((), ("-n", "default")):
        code, out, err = command("explain", "task/model", "--console=http://127.0.0.1:1", *flags)
        assert (0, True, True) == (code, "Task default/model" in out, "uses only the resource's status" in err)
