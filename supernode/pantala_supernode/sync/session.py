"""The state of a peer's exchanges: what each side last sent, and which exchanges are held."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from pantala_protocol import ranges
from pantala_protocol.images import NodeOrders
from pantala_protocol.statement import Membership
from pantala_protocol.sync import Assignment, HeldPieces, PieceWork, SyncAnswer, WantedBlob
from pantala_supernode.swarm.pool import Pool

_REMEMBERED = 4
"""How many answers are kept in case the peer repeats a request. A peer has at most two open exchanges."""

_MOST_PIECES = 1 << 26
"""The limit on the piece numbers in one request: the sum of the highest numbers of all its tasks. The limit bounds the
memory that a request can take. No node's disk has room for so many pieces."""


@dataclass(slots=True)
class PeerSession:
    """The state of the exchanges with one process of a peer, or of a Dragonfly client. Times are monotonic seconds."""

    peer: str
    boot: str
    reader: str = ""
    """The process's mark in tickets for the supernode. By the mark, the supernode recognises the reader of a piece.
    It is random, so that no other process can use it."""
    is_former: bool = False
    """True if the peer is of the former version, which does not know BLAKE3."""
    path: str | None = None
    """The path at which a Dragonfly client serves its wrapped pieces. ``None``: the process is a peer."""
    holdings: dict[str, tuple[str, int]] = field(default_factory=dict)
    """The generation and the pieces of each task that the peer reported, including tasks that are not known yet."""
    last_sent: tuple[Assignment, ...] | None = None
    """The assignments in force. ``None``: not sent yet, so the peer keeps all its pieces."""
    positions: dict[str, int] = field(default_factory=dict)
    """The position of each task in ``last_sent``."""
    membership: Membership | None = None
    """The membership that was sent with ``last_sent``."""
    revision: int = 0
    """The revision of ``last_sent`` and ``membership``. It grows with each change."""
    images: NodeOrders | None = None
    """The orders about images that were last sent."""
    seq: int = -1
    """The greatest ``seq`` of the peer's requests."""
    wants: Mapping[str, WantedBlob] = field(default_factory=dict)
    """The blobs for which the container runtime of the peer's node waits now, by task."""
    inventoried: bool = False
    """True if the peer has sent its inventory to this process, and no newer inventory was requested."""
    open_tasks: dict[str, int] = field(default_factory=dict)
    """The tasks of which the peer lacks pieces, most important first, with the turn in which each last got pieces."""
    received: dict[str, float] = field(default_factory=dict)
    """The bytes given to the peer for each tenant, divided by the tenant's share."""
    received_now: float = 0.0
    """The value in ``received`` of the tenant that took the last turn, when the turn began."""
    small_tasks: dict[str, None] = field(default_factory=dict)
    """The tasks with a small file that the peer lacks. They get no turns, because all are given at once."""
    paused: dict[str, float] = field(default_factory=dict)
    """Tasks whose pieces the peer's own disk failed to store, and until when the peer gets none of these pieces."""
    under_way: int = 0
    """The number of exchanges that have no answer yet."""
    last_heard: float = 0.0
    """When the peer's last exchange began."""
    last_alive: float = 0.0
    """When the peer's last exchange ended."""
    last_moved: float = 0.0
    """When the peer was last given a piece, or last reported a piece."""
    answers: OrderedDict[int, SyncAnswer] = field(default_factory=OrderedDict)

    @property
    def lacks_pieces(self) -> bool:
        return bool(self.open_tasks or self.small_tasks or self.wants)

    def open(self, task_id: str, *, small: bool) -> None:
        """Record that the peer lacks pieces of a task."""
        if small:
            self.open_tasks.pop(task_id, None)
            self.small_tasks[task_id] = None
        else:
            self.small_tasks.pop(task_id, None)
            self.open_tasks.setdefault(task_id, 0)

    def close(self, task_id: str) -> None:
        """Record that the peer gets no more pieces of a task."""
        self.open_tasks.pop(task_id, None)
        self.small_tasks.pop(task_id, None)

    def remember(self, answer: SyncAnswer) -> SyncAnswer:
        """Keep an answer and return it. If the answer is lost, the peer repeats its request and gets it again."""
        self.answers[answer.seq] = answer
        self.images = answer.images or self.images
        while len(self.answers) > _REMEMBERED:
            self.answers.popitem(last=False)
        return answer


Hold = asyncio.Future[tuple[PieceWork, ...]]

_EMPTY = Pool()


class SupersededError(Exception):
    """A newer exchange of the same peer ended the held exchange."""


class HeldExchanges:
    """The exchanges that are held until there is work, by peer and by task."""

    def __init__(self) -> None:
        self._held: dict[str, Hold] = {}
        self._tasks_of: dict[str, tuple[str, ...]] = {}
        self._by_task: dict[str, Pool] = {}

    def enter(self, session: PeerSession, *, full: bool = False) -> Hold:
        """Hold a peer's exchange until there is work for the peer, or another change.

        ``full``: the peer has no room for work before its next report. So it does not wait for work.
        """
        held = self._held[session.peer] = asyncio.get_running_loop().create_future()
        self._tasks_of[session.peer] = ()
        if not full:
            self.reopen(session)
        return held

    def reopen(self, session: PeerSession) -> None:
        """Let a held peer wait for work, because it has room again without a report."""
        if session.peer in self._held:
            self._tasks_of[session.peer] = (*session.open_tasks, *session.small_tasks)
            for task_id in self._tasks_of[session.peer]:
                self._by_task.setdefault(task_id, Pool()).add(session.peer)

    def leave(self, peer: str, held: Hold | None = None) -> Hold | None:
        """Stop holding a peer's exchange, and return its future. With ``held``: only if it is the current hold."""
        if held is not None and self._held.get(peer) is not held:
            return None
        for task_id in self._tasks_of.pop(peer, ()):
            waiting = self._by_task[task_id]
            waiting.discard(peer)
            if not waiting:
                del self._by_task[task_id]
        return self._held.pop(peer, None)

    def release(self, peer: str, work: tuple[PieceWork, ...] = (), only: Hold | None = None) -> None:
        """End the hold of a peer's exchange, and answer with ``work``. ``only``: do so only if this is the hold."""
        held = self.leave(peer, only)
        if held is not None and not held.done():
            held.set_result(work)

    def supersede(self, peer: str) -> None:
        held = self.leave(peer)
        if held is not None and not held.done():
            held.set_exception(SupersededError())

    def release_all(self) -> None:
        for peer in list(self._held):
            self.release(peer)

    def waiting(self, task_id: str) -> Pool:
        """The peers that wait for pieces of a task. Check :meth:`listens`, because a peer may have an answer by now."""
        return self._by_task.get(task_id, _EMPTY)

    def listens(self, peer: str) -> bool:
        held = self._held.get(peer)
        return held is not None and not held.done()

    def __len__(self) -> int:
        return len(self._held)

    def tasks(self) -> list[str]:
        return list(self._by_task)


_MOST_RANGES = 1 << 19
"""The most ranges of pieces in one request. To read more would hold up all other peers for a second."""


def parse_held(reported: Mapping[str, HeldPieces]) -> dict[str, tuple[str, int]]:
    """The reported generation and pieces (bit mask) of each task. Raises :class:`ValueError` for invalid ranges."""
    parsed, room = {}, _MOST_PIECES
    if sum(held.pieces.count(",") for held in reported.values()) > _MOST_RANGES:
        raise ValueError(f"The request has more than {_MOST_RANGES} ranges of pieces. Send fewer pieces at once.")
    for task_id, held in reported.items():
        pieces = ranges.parse(held.pieces)
        room -= pieces.bit_length()
        if room < 0:
            raise ValueError(f"The request names more than {_MOST_PIECES} pieces. Send fewer pieces at once.")
        parsed[task_id] = (held.generation, pieces)
    return parsed
