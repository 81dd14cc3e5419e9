"""What a supernode knows about unfinished downloads: ``GET /api/v1/progress``.

The operator asks every few seconds. The message names only nodes whose download is unfinished or still shows a rate,
so finished nodes do not make it larger. Reports about finished nodes are in ``Changes``.

A rate is the number of bytes in the last :data:`WINDOW` seconds, divided by :data:`WINDOW`. If a program reads the
rates once a second and adds them, the sum is the number of bytes that were moved.
"""

from __future__ import annotations

from typing import Final

import msgspec

from pantala_protocol.rules import text
from pantala_protocol.rules.fields import Count, Id, Key, Name

WINDOW: Final = 5
"""Seconds over which a rate is measured."""


class Inflow(msgspec.Struct, frozen=True, omit_defaults=True):
    """The bytes that one node got from one provider for one task."""

    provider: Key
    """The name of the node or client. Empty: the supernode that sends this message."""
    bytes: Count
    rate: Count = 0
    """Bytes per second."""


class NodeDownload(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far one node is with one task."""

    node: Name
    bytes: Count = 0
    """The verified bytes that the node has."""
    rate: Count = 0
    """Bytes per second that the node verified."""
    flows: tuple[Inflow, ...] = ()
    """The providers with the most bytes, at most eight."""
    reason: str = ""
    """Why the node gets no bytes, as a :class:`~pantala_protocol.reasons.Reason`. Empty: nothing is known."""
    message: str = ""
    since: float = 0.0
    """Since when ``reason`` holds, in seconds since the epoch. 0 without a reason."""
    pace: Count = 0
    """Bytes per second since the download began to move, at most over :data:`WINDOW` seconds. 0: not known yet.

    At the start, ``rate`` is too small, because it is a mean over the whole window. So the time left follows from this.
    """

    def __post_init__(self) -> None:
        text.clean_failure(self)


class TaskProgressView(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far one task is."""

    task_id: Id
    origin_rate: Count = 0
    """Bytes per second that the supernode reads from the origin or from another replica."""
    reason: str = ""
    """Why the supernode gets bytes slowly or not at all, such as ``SourceSlow``. Empty: nothing is known."""
    message: str = ""
    since: float = 0.0
    nodes: tuple[NodeDownload, ...] = ()
    origin_pace: Count = 0
    """Like :attr:`NodeDownload.pace`, for the bytes from the origin or from another replica."""
    origin_bytes: Count = 0
    """Bytes that all supernodes together read from the origin for their copies."""
    supernode_bytes: Count = 0
    """Bytes that nodes took from this supernode."""
    peer_bytes: Count = 0
    """Bytes that nodes took from each other."""

    def __post_init__(self) -> None:
        text.clean_failure(self)


class SilentPeer(msgspec.Struct, frozen=True):
    """A peer whose next exchange is overdue."""

    name: Name
    since: float
    """When the peer's last exchange began, in seconds since the epoch."""


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to ``GET /api/v1/progress``."""

    boot: Id
    """A random ID of the supernode's process."""
    at: float
    """The supernode's time, in seconds since the epoch."""
    tasks: tuple[TaskProgressView, ...] = ()
    silent: tuple[SilentPeer, ...] = ()
    volume_bytes: Count = 0
    """The size of the supernode's volume."""
    volume_free: Count = 0
