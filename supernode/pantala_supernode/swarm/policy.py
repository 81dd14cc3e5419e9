"""The limits that the scheduler keeps."""

from __future__ import annotations

from dataclasses import dataclass, field

from pantala_supernode.swarm.reputation import Tolerance


@dataclass(frozen=True, slots=True)
class Policy:
    """The scheduler's limits."""

    window: int = 4
    """Pieces given to one client that does not say how many it downloads at once, and not reported. More pins pieces
    in queues: 16 costs 70 % of the time."""
    most_window: int = 16
    """Of one that says."""
    peer_uploads: int = 4
    """Pieces booked at a peer that does not say how many it sends at once. Below ``window`` single peers starve."""
    most_peer_uploads: int = 32
    """Of one that says."""
    supernode_uploads: int = 8
    """Pieces booked at the supernode: a receiver gives each sender a part of its link only, so it must serve many."""
    most_supernode_uploads: int = 32
    """With a link of known bandwidth that so many fill."""
    bandwidth: float | None = None
    """Of the supernode's link, in bytes a second; ``None``: not known."""
    sample: int = 16
    """Providers and held clients looked at for one decision."""
    draws: int = 4
    """Samples looked at, if none of a large swarm's has room."""
    blacklist_seconds: float = 30.0
    """How long a client is not sent again to a provider that failed it."""
    zone_patience: float = 5.0
    """Seconds that a zone at least waits for a piece given to one of its clients before it is brought in again."""
    tolerance: Tolerance = field(default_factory=Tolerance)
    """With peers that fail others."""
