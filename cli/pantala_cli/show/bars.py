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

_LONGEST, _SHORTEST = 20, 6
"""Cells of a bar."""
_NUMBERS = 95
"""Cells that the numbers and the state take. Names and bars share the other cells."""
_NAME = 24
"""Cells that a name has at least. Longer names continue on the next line."""
_SHORT_NAME = 16
"""Cells that a name has at least on a narrow terminal."""

Key = tuple[str, str, str]
"""Kind, namespace and name of a Task or an ImagePrefetch."""


def key(task: TaskSummary) -> Key:
    return task.kind, task.namespace, task.name


def tasks(console: Console, details: Mapping[Key, TaskDetail], *, most: int, screen: int = 0) -> Group:
    """All unfinished work, with the nodes of the Tasks that have ``details``.

    ``screen``: the width of the terminal. 0: a program reads the table, which then has no bars.
    """
    if not console.tasks:
        return Group(totals(console), Text("No Task or ImagePrefetch is unfinished."))
    found = [details[key(task)] for task in console.tasks if key(task) in details]
    names = [*map(title, console.tasks), *(f"  {node.name}" for each in found for node in each.nodes)]
    longest = max(map(len, names))
    bar = _bar_width(screen, longest)
    compact = 0 < screen < _NUMBERS + _NAME
    numbers = ("RATE",) if compact else ("BYTES", "ORIGIN", "SUPERNODE", "PEERS")
    table = tables.plain("NAME", *(("",) if bar else ()), "DONE", *numbers, "ETA", "STATE")
    if screen:
        for column, least in (
            (table.columns[0], min(longest, _SHORT_NAME if compact else _NAME)),
            (table.columns[-1], 12),
        ):
            column.no_wrap, column.overflow, column.min_width = False, "fold", least
    for task in console.tasks:
        table.add_row(
            Text(title(task), "bold"), *_bar(task.progress, bar), share(task.progress),
            *_numbers(_bytes(task), task.traffic, compact=compact), duration(task.eta),
            Text(f"{tables.nodes(task.nodes)} {task.reason}", tables.style_of(task)),
        )  # fmt: skip
        detail = details.get(key(task))
        if detail is not None:
            _nodes(table, detail, most=most, bar=bar, compact=compact)
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


def nodes(console: Console, *, screen: int = 0) -> Group:
    """The rates of all nodes, the busiest first."""
    bar = _bar_width(screen, max((len(peer.name) for peer in console.peers), default=0))
    table = tables.plain("NODE", *(("",) if bar else ()), "IN", "OUT", "UPLOADS", "CACHE", "TASKS", "ZONE", "STATE")
    most = max((_flow(peer) for peer in console.peers), default=0)
    for peer in sorted(console.peers, key=lambda each: (-_flow(each), each.name)):
        table.add_row(
            peer.name, *_bar(_flow(peer) / most if most else 0.0, bar), rate(peer.rate_in), rate(peer.rate_out),
            str(peer.uploads), size(peer.cache_bytes), str(peer.tasks), peer.zone or UNKNOWN, peer.reason,
        )  # fmt: skip
    return Group(totals(console), table)


def _nodes(table: Table, detail: TaskDetail, *, most: int, bar: int, compact: bool) -> None:
    shown = unfinished(detail.nodes)
    for node in shown[:most]:
        part = node.bytes / detail.task.length if detail.task.length else None
        done = f"{size(node.bytes)}/{size(detail.task.length)}" if detail.task.length else size(node.bytes)
        table.add_row(
            f"  {node.name}", *_bar(part, bar), share(part),
            *_numbers(done, _traffic(node), compact=compact), duration(node.eta),
            f"{node.state}: {node.reason}" if node.reason else str(node.state),
        )  # fmt: skip
    if len(shown) > most:
        table.add_row(f"  ... and {counted(len(shown) - most, 'more node')}")


def _traffic(node: NodeView) -> Traffic:
    """A node's rates by source. The part of the rate that no flow explains comes from providers that are not listed."""
    supernode = sum(flow.rate for flow in node.flows if flow.provider == "supernode")
    return Traffic(supernode_rate=supernode, peers_rate=sum(flow.rate for flow in node.flows) - supernode)


def _numbers(done: str, moved: Traffic, *, compact: bool) -> Iterable[str]:
    if compact:
        return (rate(moved.supernode_rate + moved.peers_rate),)
    return done, rate(moved.origin_rate), rate(moved.supernode_rate), rate(moved.peers_rate)


def _bytes(task: TaskSummary) -> str:
    moved = size(task.traffic.supernode + task.traffic.peers)
    return f"{moved}, {size(task.length)} each" if task.length else moved


def _flow(peer: PeerView) -> int:
    return peer.rate_in + peer.rate_out


def _bar_width(screen: int, longest: int) -> int:
    """The cells of a bar. 0: no bar fits."""
    room = screen - _NUMBERS - min(longest, _NAME)
    return min(room, _LONGEST) if room >= _SHORTEST else 0


def _bar(part: float | None, cells: int) -> Iterable[RenderableType]:
    return [ProgressBar(total=1.0, completed=min(part or 0.0, 1.0), width=cells)] if cells else []
