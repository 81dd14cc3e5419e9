"""Which supernodes a task is stated to, and whose word on it counts. Pure.

A task belongs to its owner. Whoever had it before keeps it until the owner has caught up, so that a move takes nothing
from anybody: not the file from nodes, not the bytes from the supernodes, not Ready from the Task.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

from pantala_protocol.statement import CDNStatus, TaskReport


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """What one supernode says of a task."""

    report: TaskReport
    connected: Set[str]
    """Nodes whose peers speak with it."""
    silent: bool = False
    """It has not answered for long: what it said last may be old."""
    anew: bool = False
    """It said so before it started anew, and nothing since."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a task is."""

    stated: frozenset[str]
    """The supernodes that it is stated to."""
    counted: str = ""
    """The supernode whose report counts; empty: none has said anything yet."""
    moving: bool = False
    """Its owner has not caught up yet."""


def place(owner: str | None, words: Mapping[str, ReplicaReport], attempt: str) -> Placement:
    """Place a task with those who have it (``words``); ``attempt`` is the one that is wanted.

    ``owner``: ``None`` while no supernode stays; then all is kept where it is.
    """
    if owner is None:
        return Placement(frozenset(words), _foremost(words, attempt), moving=True)
    own = words.get(owner)
    ahead = [name for name, word in words.items() if name != owner and not _caught_up(own, word)]
    counting = {name: words[name] for name in (*ahead, owner) if name in words}
    return Placement(frozenset({owner, *ahead}), _foremost(counting, attempt), moving=bool(ahead))


def _caught_up(own: ReplicaReport | None, other: ReplicaReport) -> bool:
    """Whether the owner has all that ``other`` has: the copy, and the word of each node that can give it."""
    if own is None or own.anew or own.report.attempt != other.report.attempt:
        return False
    if not set(other.report.ready_peers) & own.connected <= set(own.report.ready_peers):
        return False
    return own.report.cdn_status is CDNStatus.SUCCESS or not _worth_having(own.report, other.report)


def _worth_having(own: TaskReport, other: TaskReport) -> bool:
    """Whether waiting for a copy gives the owner something."""
    if other.cdn_status in {CDNStatus.SUCCESS, CDNStatus.RUNNING}:
        return True
    return other.pieces_cached > 0 and not (_ended(own) and _ended(other))


def _ended(report: TaskReport) -> bool:
    return report.failure is not None and report.failure.final


def _foremost(words: Mapping[str, ReplicaReport], attempt: str) -> str:
    """Who is furthest, so that a status never falls behind what it said."""

    def progress(name: str) -> tuple[bool, bool, bool, int, int, str]:
        word, report = words[name], words[name].report
        whole = report.cdn_status is CDNStatus.SUCCESS
        right = report.attempt == attempt
        return right, not word.silent, whole, len(report.ready_peers), report.pieces_cached, name

    return max((name for name, word in words.items() if not word.anew), key=progress, default="")
