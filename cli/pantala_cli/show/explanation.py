"""Explains why a Task or an ImagePrefetch is not done: each cause once, with its evidence and the next step. Pure."""

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pantala_cli.show import tables
from pantala_cli.show.words import UNKNOWN, clock, counted, duration, rate, share, size
from pantala_protocol.console.views import Cause, Moment, NodePhase, NodeView, TaskDetail, TaskSummary

_OPEN = (NodePhase.FAILED, NodePhase.LATE, NodePhase.FETCHING, NodePhase.WAITING)
_SHOWN = 20
"""The most nodes in the table. Further nodes are only counted."""
_STEPS = 12
"""The number of the newest moments in the timeline."""


def explain(detail: TaskDetail, now: float, node: str = "") -> Group:
    """Explain one Task, or only one node of it."""
    task = detail.task
    parts: list[RenderableType] = [headline(task), facts(task)]
    causes = [cause for cause in detail.causes if not node or not cause.nodes or node in cause.nodes]
    shown = [each for each in detail.nodes if each.name == node] if node else unfinished(detail.nodes)
    if node and not shown:
        parts.append(Text(f"\nNode {node} does not belong to this {task.kind}. Check spec.target and the node's name."))
    for number, cause in enumerate(causes, 1):
        parts.append(Text())
        parts.append(_cause(cause, now, f"{number}. " if len(causes) > 1 else ""))
    if not causes and task.ready == "True":
        parts.append(Text("\nNothing is missing."))
    elif not causes and not any(each.reason for each in shown):
        parts.append(Text("\nNothing blocks the work. It continues."))
    if shown:
        parts += [Text(), tables.progress_of_nodes(shown[:_SHOWN], task.length, now)]
        if len(shown) > _SHOWN:
            parts.append(Text(f"... and {counted(len(shown) - _SHOWN, 'more node')}. Choose a node with --node."))
    if node:
        parts += [_node_step(each) for each in shown if each.message or each.action]
    elif detail.timeline:
        parts += [Text(), _timeline(detail.timeline[-_STEPS:], now)]
    return Group(*parts)


def headline(task: TaskSummary) -> Text:
    """One line: the object and its state."""
    text = Text.assemble((f"{task.kind} {task.namespace}/{task.name}", "bold"), ": ")
    state = "ready" if task.ready == "True" else "not ready" if task.ready == "False" else "state unknown"
    return text.append(f"{state} ({task.reason})", tables.style_of(task))


def facts(task: TaskSummary) -> Table:
    """The message and the numbers that are known."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    moved, nodes = task.traffic, task.nodes
    states = {
        "ready": nodes.ready, "fetching": nodes.fetching, "waiting": nodes.waiting, "late": nodes.late,
        "failed": nodes.failed,
    }  # fmt: skip
    counts = ", ".join(f"{count} {name}" for name, count in states.items() if count)
    rows = {
        "message": task.message,
        "image": task.image,
        "progress": f"{share(task.progress)} of {size(task.length)}" if task.length is not None else "",
        "nodes": f"{nodes.desired} wanted" + (f": {counts}" if counts else ""),
        "from origin": _moved(moved.origin, moved.origin_rate),
        "from supernode": _moved(moved.supernode, moved.supernode_rate),
        "from peers": _moved(moved.peers, moved.peers_rate),
        "time left": duration(task.eta) if task.eta is not None else "",
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, Text(value))
    return table


def unfinished(nodes: Iterable[NodeView]) -> list[NodeView]:
    """The nodes that are not ready, the failed and late nodes first."""
    waiting = [node for node in nodes if node.state in _OPEN]
    return sorted(waiting, key=lambda node: (_OPEN.index(node.state), node.name))


def _cause(cause: Cause, now: float, number: str) -> Group:
    since = "" if cause.since is None else f" for {duration(now - cause.since)}"
    where = f" on {', '.join(cause.nodes)}" if cause.nodes else ""
    lines: list[RenderableType] = [Text.assemble(number, (cause.reason, "bold red"), f"{where}{since}")]
    lines.append(Padding(Text(cause.message), (0, 0, 0, 3)))
    lines += [Padding(Text(f"- {fact}"), (0, 0, 0, 3)) for fact in cause.evidence]
    if cause.action:
        lines.append(Padding(Text.assemble(("next: ", "bold"), cause.action), (0, 0, 0, 3)))
    return Group(*lines)


def _node_step(node: NodeView) -> Text:
    return Text(f"{node.name}: {node.message}" + (f" {node.action}" if node.action not in node.message else ""))


def _timeline(moments: Iterable[Moment], now: float) -> Table:
    table = tables.plain("TIME", "REASON")
    table.add_column("WHAT HAPPENED", overflow="fold")
    for moment in moments:
        table.add_row(clock(moment.at, now), moment.reason, Text(moment.message))
    return table


def _moved(count: int, per_second: int) -> str:
    moving = rate(per_second)
    return (size(count) if moving == UNKNOWN else f"{size(count)} at {moving}") if count or per_second else ""
