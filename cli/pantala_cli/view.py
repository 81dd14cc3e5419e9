"""Turns resources into the tables that the commands print. Pure."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

Resource = Mapping[str, Any]

_UNITS = ("", "Ki", "Mi", "Gi", "Ti")
_STYLES = {"True": "green", "False": "yellow", "Unknown": "yellow"}


class TaskLine(NamedTuple):
    """The cells of a Task's line."""

    namespace: str
    name: str
    ready: str
    reason: str
    progress: str
    peers: str
    size: str
    origin: str
    age: str


def task_line(task: Resource, now: datetime) -> TaskLine:
    metadata, status = task["metadata"], task.get("status") or {}
    ready = condition(task, "Ready")
    peers = status.get("peers") or {}
    length = status.get("contentLength")
    origin = (status.get("bytes") or {}).get("origin", 0)
    return TaskLine(
        namespace=metadata["namespace"],
        name=metadata["name"],
        ready=ready.get("status", "Unknown"),
        reason=ready.get("reason", "NotSeenYet"),
        progress=_percent(progress(task)),
        peers=f"{peers.get('ready', 0)}/{peers['desired']}" if "desired" in peers else "-",
        size=size(length),
        origin=f"{origin / length:.2f}x" if length else "-",
        age=age(metadata["creationTimestamp"], now),
    )


def condition(resource: Resource, kind: str) -> Mapping[str, str]:
    """Return the condition of a type. It is empty if the condition is missing or describes an older generation."""
    generation = resource["metadata"].get("generation", 0)
    for each in (resource.get("status") or {}).get("conditions") or ():
        if each["type"] == kind and each.get("observedGeneration", generation) >= generation:
            return dict(each)
    return {}


def progress(task: Resource) -> float | None:
    """Return the share of bytes that were transferred, from 0 to 1, or ``None`` while the file's length is unknown."""
    status = task.get("status") or {}
    if condition(task, "Ready").get("status") == "True":
        return 1.0
    length, desired = status.get("contentLength"), (status.get("peers") or {}).get("desired", 0)
    if length is None:
        return None
    moved = (status.get("bytes") or {}).get("distributed", 0)
    pieces = status.get("pieces") or {}
    cached = length * pieces.get("cached", 0) / pieces["total"] if pieces.get("total") else 0
    whole = length * (desired + 1)
    return float(min((cached + moved) / whole, 0.99)) if whole else 0.0


def tasks_table(tasks: Iterable[Resource], now: datetime, *, namespaces: bool) -> Table:
    table = _table("NAME", "READY", "REASON", "PROGRESS", "PEERS", "SIZE", "ORIGIN", "AGE", namespaces=namespaces)
    for task in sorted(tasks, key=lambda each: (each["metadata"]["namespace"], each["metadata"]["name"])):
        line = task_line(task, now)
        stalled = condition(task, "Stalled").get("status") == "True"
        style = "red" if stalled else _STYLES.get(line.ready, "")
        where = [line.namespace] if namespaces else []
        table.add_row(*where, line.name, Text(line.ready, style), Text(line.reason, style), *line[4:])
    return table


def details(task: Resource) -> Table:
    """Return the details of a Task: the reason for its state, the sources of its bytes, and the failed nodes."""
    status = task.get("status") or {}
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    ready, moved = condition(task, "Ready"), status.get("bytes") or {}
    rows = {
        "Message": ready.get(
            "message", "The operator has not seen the Task yet. If this lasts, see the operator's log."
        ),
        "URL": ((task["spec"].get("source") or {}).get("url") or "").partition("?")[0],
        "Path": status.get("path", ""),
        "Digest": status.get("digest", ""),
        "From origin": size(moved.get("origin")),
        "From supernode": size(moved.get("fromSupernode")),
        "From peers": size(moved.get("fromPeers")),
    }
    for name, value in rows.items():
        if value:
            table.add_row(Text(name, "bold"), Text(value))
    for failure in status.get("failures") or ():
        table.add_row(
            Text("Failed", "bold red"), Text(f"{failure['node']}: {failure['reason']}: {failure.get('message', '')}")
        )
    return table


def peers_table(peers: Iterable[Resource], now: datetime) -> Table:
    table = _table("NAME", "READY", "ADDRESS", "ZONE", "TASKS", "CACHE", "SERVED", "FAILED", "VERSION", "AGE")
    for peer in sorted(peers, key=lambda each: str(each["metadata"]["name"])):
        status = peer.get("status") or {}
        cache = status.get("cache") or {}
        ready = condition(peer, "Ready").get("status", "Unknown")
        table.add_row(
            peer["metadata"]["name"],
            Text(ready, _STYLES.get(ready, "")),
            status.get("address", "-"),
            status.get("zone") or "-",
            str(cache.get("tasks", 0)),
            size(cache.get("bytes")),
            str(status.get("succeeded", 0)),
            str(status.get("failed", 0)),
            status.get("version", "-"),
            age(peer["metadata"]["creationTimestamp"], now),
        )
    return table


def size(count: int | None) -> str:
    """Return bytes in readable form, such as ``97.6Mi``, or ``-`` if unknown."""
    if count is None:
        return "-"
    value, unit = float(count), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f}".removesuffix(".0") + _UNITS[unit]


def age(created: str, now: datetime) -> str:
    """Return the age as kubectl prints it: ``45s``, ``12m``, ``3h``, ``9d``."""
    seconds = max(int((now - datetime.fromisoformat(created)).total_seconds()), 0)
    for limit, unit, length in ((120, "s", 1), (7200, "m", 60), (172800, "h", 3600)):
        if seconds < limit:
            return f"{seconds // length}{unit}"
    return f"{seconds // 86400}d"


def utc_now() -> datetime:
    return datetime.now(UTC)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _table(*columns: str, namespaces: bool = False) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="")
    for column in (("NAMESPACE",) if namespaces else ()) + columns:
        table.add_column(column, no_wrap=True)
    return table
