"""Decides which supernodes a task is stated to, and whose report counts. Pure.

A task belongs to its owner. A former owner keeps it until the owner has caught up. So a move takes no file from a
node, no bytes from the supernodes, and no Ready from the Task.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass

from pantala_protocol.statement import CDNStatus, TaskReport


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """What one supernode reports about a task."""

    report: TaskReport
    connected: Set[str]
    """Nodes whose peers are connected to it."""
    silent: bool = False
    """It has not answered for long, so the report may be old."""
    before_restart: bool = False
    """The supernode has restarted since, and has not reported the task again."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a task is."""

    stated: frozenset[str]
    """The supernodes it is stated to."""
    counted: str = ""
    """The supernode whose report counts; empty: none has reported it."""
    moving: bool = False
    """The owner has not caught up yet."""


def place(owner: str | None, reports: Mapping[str, ReplicaReport], attempt: str) -> Placement:
    """Place a task that the supernodes in ``reports`` have, and whose current attempt is ``attempt``.

    ``owner`` is ``None`` while no supernode stays; then the task stays where it is.
    """
    if owner is None:
        return Placement(frozenset(reports), _most_advanced(reports, attempt), moving=True)
    own = reports.get(owner)
    ahead = [name for name, report in reports.items() if name != owner and not _caught_up(own, report)]
    counting = {name: reports[name] for name in (*ahead, owner) if name in reports}
    return Placement(frozenset({owner, *ahead}), _most_advanced(counting, attempt), moving=bool(ahead))


def _caught_up(own: ReplicaReport | None, other: ReplicaReport) -> bool:
    """True if the owner has everything that ``other`` has: the copy, and a report from each node with the file."""
    if own is None or own.before_restart or own.report.attempt != other.report.attempt:
        return False
    if not set(other.report.ready_peers) & own.connected <= set(own.report.ready_peers):
        return False
    return own.report.cdn_status is CDNStatus.SUCCESS or not _worth_waiting(own.report, other.report)


def _worth_waiting(own: TaskReport, other: TaskReport) -> bool:
    """True if the owner should wait, because the other copy can still grow or has pieces."""
    if other.cdn_status in {CDNStatus.SUCCESS, CDNStatus.RUNNING}:
        return True
    return other.pieces_cached > 0 and not (_ended(own) and _ended(other))


def _ended(report: TaskReport) -> bool:
    return report.failure is not None and report.failure.final


def _most_advanced(reports: Mapping[str, ReplicaReport], attempt: str) -> str:
    """The supernode whose report has the most progress, so that a status never falls back."""

    def progress(name: str) -> tuple[bool, bool, bool, int, int, str]:
        replica, report = reports[name], reports[name].report
        whole = report.cdn_status is CDNStatus.SUCCESS
        right = report.attempt == attempt
        return right, not replica.silent, whole, len(report.ready_peers), report.pieces_cached, name

    return max((name for name, each in reports.items() if not each.before_restart), key=progress, default="")
