"""One peer's conversation with the supernode: its boot, its exchanges, what it holds and what it was told."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from pantala_protocol.images import NodeOrders
from pantala_protocol.membership import Membership
from pantala_protocol.sync import Assignment, SyncAnswer, Wanted

_REMEMBERED = 4
"""Answers kept for repetition; a peer has at most two exchanges under way."""


@dataclass(slots=True)
class Session:
    """Everything about one process of a peer but its progress."""

    peer: str
    boot: str
    path: str | None = None
    """Where a Dragonfly client serves its wrapped pieces, word for word; ``None``: it is a peer of ours."""
    holdings: dict[str, tuple[str, int]] = field(default_factory=dict)
    """What it says to hold: task -> (generation, pieces). Kept, since the task may become known later."""
    told: tuple[Assignment, ...] | None = None
    """The assignments in force; ``None``: no statement yet, it keeps what it has."""
    membership: Membership | None = None
    """What it was told of the supernodes, beside ``told``."""
    revision: int = 0
    """Of both."""
    images: NodeOrders | None = None
    """What it was told last to do about images."""
    seq: int = -1
    """The greatest that came."""
    wants: Mapping[str, Wanted] = field(default_factory=dict)
    """The blobs that its node's runtime waits for now, by task."""
    inventoried: bool = False
    """It told its whole inventory since this supernode started."""
    open_tasks: dict[str, None] = field(default_factory=dict)
    """Tasks it still lacks pieces of, those that matter most first."""
    paused: dict[str, float] = field(default_factory=dict)
    """Tasks that its own disk failed, until when it gets no piece of them; monotonic seconds."""
    under_way: int = 0
    """Exchanges that are not answered."""
    quiet_since: float = 0.0
    """When the last exchange ended; monotonic seconds."""
    moved_at: float = 0.0
    """When it was last given a piece or reported one; monotonic seconds."""
    answers: OrderedDict[int, SyncAnswer] = field(default_factory=OrderedDict)

    def remember(self, answer: SyncAnswer) -> SyncAnswer:
        """Keep an answer, in case it is lost on the way and asked for again."""
        self.answers[answer.seq] = answer
        self.images = answer.images or self.images
        while len(self.answers) > _REMEMBERED:
            self.answers.popitem(last=False)
        return answer
