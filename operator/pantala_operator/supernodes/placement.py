"""Decides which supernodes should have a task, and whose report counts for its status. Pure.

A task belongs to its owner. A former owner keeps it until the owner has caught up. So a change of owner
removes no file from a node, loses no bytes of the supernodes, and leaves a Ready Task Ready.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass

from pantala_protocol.statement import CDNStatus, TaskReport


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """What one supernode reports about a task."""

    report: TaskReport
    ready: Set[str]
    """The nodes that have the file, as the supernode reports them."""
    connected: Set[str]
    """The nodes whose peers are connected to the supernode."""
    silent: bool = False
    """True if the supernode has not answered for a while, so that the report may be outdated."""
    before_restart: bool = False
    """True if the report is from before the supernode's restart, and no newer one exists."""
    current: bool = True
    """True if the statement in force at the time of the report contains the task, and so does each later statement.
    Otherwise, the supernode may have deleted the copy."""


@dataclass(frozen=True, slots=True)
class Placement:
    """The decision about one task."""

    stated: frozenset[str]
    """The supernodes whose statements contain the task."""
    counted: str = ""
    """The supernode whose report counts. Empty if no supernode has reported the task."""
    moving: bool = False
    """True while another supernode has pieces or reports that the owner does not have yet."""


def place(owner: str | None, reports: Mapping[str, ReplicaReport], attempt: str) -> Placement:
    """Decide where a task should be.

    ``reports``: the reports of the supernodes that have the task. ``attempt``: the newest attempt of the Task.
    ``owner`` is ``None`` while no supernode should run. Then the task stays where it is.
    """
    if owner is None:
        return Placement(frozenset(reports), _most_advanced(reports, attempt), moving=True)
    own = reports.get(owner)
    ahead = [name for name, report in reports.items() if name != owner and not _caught_up(own, report)]
    counting = {name: reports[name] for name in (*ahead, owner) if name in reports}
    return Placement(frozenset({owner, *ahead}), _most_advanced(counting, attempt), moving=bool(ahead))


def _caught_up(own: ReplicaReport | None, other: ReplicaReport) -> bool:
    """True if the owner has everything that ``other`` has: the copy, and a report from each node with the file."""
    if own is None or own.before_restart or not own.current or own.report.attempt != other.report.attempt:
        return False
    if not other.ready & own.connected <= own.ready:
        return False
    return own.report.cdn_status is CDNStatus.SUCCESS or not _worth_waiting(own.report, other.report)


def _worth_waiting(own: TaskReport, other: TaskReport) -> bool:
    """True if the owner should wait for the other copy, because this copy is whole, grows, or has pieces."""
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
        return right, not replica.silent, whole, len(replica.ready), report.pieces_cached, name

    return max((name for name, each in reports.items() if not each.before_restart), key=progress, default="")
