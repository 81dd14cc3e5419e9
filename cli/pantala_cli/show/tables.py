"""The tables of the commands. Names are never cut: a table is as wide as its content. Pure."""

from collections.abc import Container, Iterable

from rich.table import Table
from rich.text import Text

from pantala_cli.show.words import UNKNOWN, duration, rate, share, size
from pantala_protocol.console.views import NodeCounts, NodePhase, NodeView, PeerView, TaskSummary

_STYLES = {"True": "green", "False": "yellow", "Unknown": "yellow"}
_PHASES = {NodePhase.READY: "green", NodePhase.LATE: "yellow", NodePhase.FAILED: "red"}
_WAITING = ("FETCHING", "WAITING", "LATE", "FAILED")
_FILE_COLUMNS = ("NAME", "READY", "REASON", "PROGRESS", "NODES", "SIZE", "ORIGIN", "AGE")
_IMAGE_COLUMNS = ("NAME", "READY", "REASON", "PROGRESS", "NODES", "SIZE", "AGE")
_PEER_COLUMNS = ("NAME", "READY", "ADDRESS", "ZONE", "TASKS", "CACHE", "UPLOADS", "VERSION")


def tasks(found: Iterable[TaskSummary], now: float, *, namespaces: bool = False, wide: bool = False) -> Table:
    """A line for each Task. ``wide`` adds facts that only the console has."""
    more = (*_WAITING, "RATE", "ETA", "FROM-SUPERNODE", "FROM-PEERS", "IMAGE") if wide else ()
    table = plain(*(("NAMESPACE",) if namespaces else ()), *_FILE_COLUMNS, *more)
    for task in _sorted(found):
        moved = task.traffic
        line = [
            share(task.progress), nodes(task.nodes), size(task.length), origin(task),
            duration(now - task.created),
        ]  # fmt: skip
        if wide:
            line += [*_counts(task.nodes), _rate(task), duration(task.eta), size(moved.supernode), size(moved.peers)]
            line += [task.image or UNKNOWN]
        table.add_row(*_head(task, namespaces=namespaces), *line)
    return table


def images(found: Iterable[TaskSummary], now: float, *, namespaces: bool = False, wide: bool = False) -> Table:
    """A line for each ImagePrefetch."""
    more = (*_WAITING, "RATE", "ETA", "ORIGIN", "MESSAGE") if wide else ()
    table = plain(*(("NAMESPACE",) if namespaces else ()), *_IMAGE_COLUMNS, *more)
    for task in _sorted(found):
        line = [share(task.progress), nodes(task.nodes), size(task.length), duration(now - task.created)]
        if wide:
            line += [*_counts(task.nodes), _rate(task), duration(task.eta), origin(task), task.message]
        table.add_row(*_head(task, namespaces=namespaces), *line)
    return table


def peers(found: Iterable[PeerView], drained: Container[str] = (), *, wide: bool = False) -> Table:
    """A line for each peer. ``drained``: the nodes that get no new Tasks."""
    more = ("MIRROR", "CLOCK", "IN", "OUT", "REASON", "MESSAGE") if wide else ()
    table = plain(*_PEER_COLUMNS, *more)
    for peer in sorted(found, key=lambda each: each.name):
        line = [
            peer.address or UNKNOWN, peer.zone or UNKNOWN, str(peer.tasks), size(peer.cache_bytes), str(peer.uploads),
            peer.version or UNKNOWN,
        ]  # fmt: skip
        if wide:
            known = {each.type: each.status for each in peer.conditions}
            line += [known.get(kind, UNKNOWN) for kind in ("MirrorConfigured", "ClockSynchronized")]
            line += [rate(peer.rate_in), rate(peer.rate_out), peer.reason, peer.message]
        state, style = peer.ready, _STYLES.get(peer.ready, "")
        if peer.name in drained:
            state, style = f"{state},Drained", "yellow"
        table.add_row(peer.name, Text(state, style), *line)
    return table


def progress_of_nodes(found: Iterable[NodeView], length: int | None, now: float) -> Table:
    """A line for each node of one Task."""
    table = plain("NODE", "STATE", "BYTES", "RATE", "ETA", "SINCE", "REASON", "FROM")
    for node in found:
        since = UNKNOWN if node.since is None else duration(now - node.since)
        done = size(node.bytes) if length is None else f"{size(node.bytes)}/{size(length)}"
        flows = ", ".join(f"{flow.provider} {rate(flow.rate)}" for flow in node.flows if flow.rate)
        table.add_row(
            node.name, Text(node.state, _PHASES.get(node.state, "")), done, rate(node.rate), duration(node.eta),
            since, node.reason or UNKNOWN, flows or UNKNOWN,
        )  # fmt: skip
    return table


def nodes(counts: NodeCounts) -> str:
    """How many of the desired nodes are ready, such as ``2/3``."""
    return f"{counts.ready}/{counts.desired}" if counts.desired else UNKNOWN


def origin(task: TaskSummary) -> str:
    """How often the origin sent the file or image, such as ``1.00x``. For images, only the console has this number."""
    moved = task.traffic
    known = not task.image or moved.origin or moved.supernode or moved.peers
    return f"{moved.origin / task.length:.2f}x" if task.length and known else UNKNOWN


def style_of(task: TaskSummary) -> str:
    """Red: nodes failed or the Task is stalled. Yellow: not ready yet."""
    return "red" if task.nodes.failed and task.ready != "True" else _STYLES.get(task.ready, "")


def plain(*columns: str) -> Table:
    """A table without lines, whose cells are never cut."""
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="")
    for column in columns:
        table.add_column(column, no_wrap=True, overflow="ignore")
    return table


def _head(task: TaskSummary, *, namespaces: bool) -> list[str | Text]:
    style = style_of(task)
    where: list[str | Text] = [task.namespace] if namespaces else []
    return [*where, task.name, Text(task.ready, style), Text(task.reason, style)]


def _counts(found: NodeCounts) -> list[str]:
    return [str(found.fetching), str(found.waiting), str(found.late), str(found.failed)]


def _rate(task: TaskSummary) -> str:
    return rate(task.traffic.supernode_rate + task.traffic.peers_rate)


def _sorted(found: Iterable[TaskSummary]) -> list[TaskSummary]:
    return sorted(found, key=lambda each: (each.namespace, each.name))
