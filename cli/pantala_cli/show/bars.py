"""The picture of ``top``: bars of Tasks and their nodes, and the rates by source. Pure."""

from collections.abc import Iterable, Mapping

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pantala_cli.show import tables
from pantala_cli.show.explanation import unfinished
from pantala_cli.show.words import UNKNOWN, counted, duration, rate, share, size
from pantala_protocol.console.views import Console, NodeView, PeerView, TaskDetail, TaskSummary, Traffic

_BAR = 20
"""Cells of a bar."""

Key = tuple[str, str, str]
"""Kind, namespace and name of a Task or an ImagePrefetch."""


def key(task: TaskSummary) -> Key:
    return task.kind, task.namespace, task.name


def tasks(console: Console, details: Mapping[Key, TaskDetail], *, most: int, graphic: bool) -> Group:
    """All unfinished work, with the nodes of those Tasks that have ``details``."""
    if not console.tasks:
        return Group(totals(console), Text("No Task or ImagePrefetch is unfinished."))
    table = tables.plain("NAME", *(("",) if graphic else ()), "DONE", "BYTES", "ORIGIN", "SUPERNODE", "PEERS", "ETA")
    table.columns[0].overflow, table.columns[0].no_wrap = "fold", False
    table.add_column("STATE", no_wrap=True, overflow="ignore")
    for task in console.tasks:
        bar: list[RenderableType] = [_bar(task.progress)] if graphic else []
        moved = task.traffic
        table.add_row(
            Text(title(task), "bold"), *bar, share(task.progress), _bytes(task), *_rates(moved), duration(task.eta),
            Text(f"{tables.nodes(task.nodes)} {task.reason}", tables.style_of(task)),
        )  # fmt: skip
        detail = details.get(key(task))
        if detail is not None:
            _nodes(table, detail, most=most, graphic=graphic)
    more = [Text(f"... and {console.omitted} more. Name a namespace with -n.")] if console.omitted else []
    return Group(totals(console), table, *more)


def title(task: TaskSummary) -> str:
    prefix = "image/" if task.kind == "ImagePrefetch" else ""
    return f"{prefix}{task.namespace}/{task.name}"


def totals(console: Console) -> Text:
    """One line about the whole installation."""
    moved = console.traffic
    text = (
        f"origin {rate(moved.origin_rate)}  supernode {rate(moved.supernode_rate)}  peers {rate(moved.peers_rate)}  "
        f"saved {size(console.saved)}  {counted(len(console.peers), 'peer')}"
    )
    silent = [each.name for each in console.supernodes if not each.answers]
    if silent:
        text += f"  supernode does not answer: {', '.join(silent)}"
    return Text(text if console.leads else f"{text}  This operator does not lead, so rates are missing.")


def nodes(console: Console, *, graphic: bool) -> Group:
    """The rates of all nodes, the busiest first."""
    table = tables.plain("NODE", "IN", "OUT", *(("",) if graphic else ()), "UPLOADS", "CACHE", "TASKS", "ZONE", "STATE")
    most = max((_flow(peer) for peer in console.peers), default=0)
    for peer in sorted(console.peers, key=lambda each: (-_flow(each), each.name)):
        bar: list[RenderableType] = [_bar(_flow(peer) / most if most else 0.0)] if graphic else []
        table.add_row(
            peer.name, rate(peer.rate_in), rate(peer.rate_out), *bar, str(peer.uploads), size(peer.cache_bytes),
            str(peer.tasks), peer.zone or UNKNOWN, peer.reason,
        )  # fmt: skip
    return Group(totals(console), table)


def _nodes(table: Table, detail: TaskDetail, *, most: int, graphic: bool) -> None:
    shown = unfinished(detail.nodes)
    for node in shown[:most]:
        part = node.bytes / detail.task.length if detail.task.length else None
        bar: list[RenderableType] = [_bar(part)] if graphic else []
        done = f"{size(node.bytes)}/{size(detail.task.length)}"
        table.add_row(
            f"  {node.name}", *bar, share(part), done, *_rates(_traffic(node)), duration(node.eta),
            f"{node.state}: {node.reason}" if node.reason else str(node.state),
        )  # fmt: skip
    if len(shown) > most:
        table.add_row(f"  ... and {counted(len(shown) - most, 'more node')}")


def _traffic(node: NodeView) -> Traffic:
    """A node's rates by source. What no flow explains comes from a provider that is not listed."""
    supernode = sum(flow.rate for flow in node.flows if flow.provider == "supernode")
    return Traffic(supernode_rate=supernode, peers_rate=sum(flow.rate for flow in node.flows) - supernode)


def _rates(moved: Traffic) -> Iterable[str]:
    return rate(moved.origin_rate), rate(moved.supernode_rate), rate(moved.peers_rate)


def _bytes(task: TaskSummary) -> str:
    return f"{size(task.traffic.supernode + task.traffic.peers)}, {size(task.length)} each"


def _flow(peer: PeerView) -> int:
    return peer.rate_in + peer.rate_out


def _bar(part: float | None) -> RenderableType:
    return ProgressBar(total=1.0, completed=min(part or 0.0, 1.0), width=_BAR)
