"""The settings and functions that all fetches of one supernode share."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from pantala_protocol.geometry import PieceSizes
from pantala_protocol.task_id import TaskID
from pantala_supernode.cdn.disk import MakeRoom
from pantala_supernode.cdn.segments import Division
from pantala_supernode.origin.limits import Gate
from pantala_supernode.tasks.tenancy import ReadBudget

_ANSWERS = 16
"""The most answers of origins that are read at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchTools:
    """The settings and functions that all fetches of one supernode share."""

    piece_sizes: PieceSizes
    rng: random.Random
    make_room: MakeRoom
    budget: Callable[[TaskID], ReadBudget]
    """Returns the quotas for one attempt to complete a copy."""
    fresh_for: float
    """Seconds for which a copy counts as current after the origin confirmed it. The origin may declare another time."""
    connections: int
    """The most connections that read one file."""
    division: Division = field(default_factory=Division)
    gate: Gate = field(default_factory=lambda: Gate(_ANSWERS))
    """Each answer that is read has a place in it."""
    sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep
    wall: Callable[[], float] = time.time
    """Returns seconds since the epoch."""
