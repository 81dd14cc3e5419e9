"""The settings and functions that all fetches of one supernode share."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pantala_pieces.store import PieceStore
from pantala_protocol.geometry import PieceSizes
from pantala_protocol.task_id import TaskID
from pantala_supernode.cdn.disk import MakeRoom
from pantala_supernode.cdn.segments import Division
from pantala_supernode.tasks.tenancy import ReadBudget

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class FetchTools:
    """The settings and functions that all fetches of one supernode share."""

    store: PieceStore
    piece_sizes: PieceSizes
    rng: random.Random
    make_room: MakeRoom
    budget: Callable[[TaskID], ReadBudget]
    """Returns the quotas for one try to complete a copy."""
    fresh_for: float
    """Seconds for which a copy counts as current after the origin confirmed it. The origin may declare another time."""
    connections: int
    """The most connections that read one file."""
    division: Division
    spare: Callable[[], bool]
    """Returns True if a further connection may start: a place is free, and no copy waits for a place."""
    sleep: Sleep
    wall: Callable[[], float]
    """Returns seconds since the epoch."""
