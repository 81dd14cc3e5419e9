"""What is known of a copy across the tries to complete it."""

from __future__ import annotations

from dataclasses import dataclass, field

from pantala_supernode.cdn.recorder import Recorder
from pantala_supernode.cdn.retry import RetryBudget
from pantala_supernode.origin.source import Provenance


@dataclass
class Attempts:
    """What outlives a try: the pieces, and what is known of the origin's ways."""

    recorder: Recorder | None = None
    origin_bytes: int = 0
    budget: RetryBudget = field(default_factory=RetryBudget)
    room_needed: int = 0
    """Bytes that the volume lacked; until they are free the origin is not asked."""
    cut_at: int = -1
    cuts: int = 0
    """How often in a row the body ended at ``cut_at``."""
    lost: int = 0
    """Pieces that went bad on the volume and are to be fetched anew, as a bit mask."""
    lineage: Provenance | None = None
    """Of the pieces that another supernode gave; ``None``: all are the origin's."""
    doubted: bool = False
    """Whole, but of another time: the origin is asked first whether that is still its content."""
    stitched: bool = False
    """The pieces come from several answers that nothing but the whole's digest proves to be of one content."""

    def cut(self, position: int) -> int:
        """The body ended before its end, at ``position``; how often in a row it did at this very byte."""
        self.cuts = self.cuts + 1 if position == self.cut_at else 1
        self.cut_at = position
        return self.cuts
