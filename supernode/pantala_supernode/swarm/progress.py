"""The swarms of all tasks, and the load of each provider. Pure."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pantala_protocol.task_id import TaskID
from pantala_supernode.errors import EmptyValueError, NotFoundError
from pantala_supernode.swarm.flows import FlowTable
from pantala_supernode.swarm.task_progress import SUPERNODE, PeerProgress, TaskProgress
from pantala_supernode.swarm.troubles import NodeTroubles
from pantala_supernode.tasks.copy import Copy


@dataclass(slots=True)
class PeerService:
    """What one provider serves to others, in all tasks together."""

    booked: int = 0
    """The number of pieces that others must take from this provider, and have not reported yet."""
    succeeded: int = 0
    failed: int = 0
    full_in: set[str] = field(default_factory=set)
    """The IDs of the tasks in whose swarms the provider is marked as full."""


class ProgressManager:
    """The swarms of all tasks. Methods raise :class:`NotFoundError` for unknown tasks and peers.

    ``local_peer`` is the peer on the supernode's own machine.
    """

    def __init__(self, local_peer: str | None = None) -> None:
        self.local_peer = local_peer
        self.tasks: dict[str, TaskProgress] = {}
        self.service: defaultdict[str, PeerService] = defaultdict(PeerService)
        """The service of each provider, by name. The supernode's name is :data:`SUPERNODE`."""
        self.supernode_bytes = 0
        """Bytes that peers took from the supernode since its start."""
        self.peer_bytes = 0
        """Bytes that peers took from each other since the supernode's start."""
        self.flows = FlowTable()
        """The bytes and the rate of each download, by provider."""
        self.troubles = NodeTroubles()
        """Why downloads get no bytes."""
        self.peer_bookings = 0
        """The number of pieces that peers must take from other peers, and have not reported yet."""
        self._tasks_of: defaultdict[str, set[str]] = defaultdict(set)
        self._outstanding: defaultdict[str, int] = defaultdict(int)
        self._carried: defaultdict[str, int] = defaultdict(int)

    def init_task(self, task_id: str) -> TaskProgress:
        if task_id not in self.tasks:
            self.tasks[task_id] = TaskProgress(Copy(TaskID(task_id)))
        return self.tasks[task_id]

    def init_progress(self, task_id: str, peer: str, have: int = 0, *, zone: str = "") -> PeerProgress:
        """Begin a peer's progress with the pieces ``have`` that the peer reports. Its former progress is forgotten."""
        if not peer:
            raise EmptyValueError("The peer has no name, so it cannot take part in a task.")
        self.forget_progress(task_id, peer)
        local = peer == self.local_peer
        progress = PeerProgress(have=have, zone="" if local else zone, local=local)
        self.tasks[task_id].add_peer(peer, progress)
        self._tasks_of[peer].add(task_id)
        return progress

    def restart_task(self, task_id: str) -> None:
        task = self.init_task(task_id)
        for peer in list(task.peers):
            self.forget_progress(task_id, peer)
        task.copy, task.verified = Copy(TaskID(task_id)), 0

    def give(self, task_id: str, peer: str, piece: int, provider: str, *, carried: bool = False) -> None:
        """Record that a peer was given a piece, which it must take from ``provider``. Book a place at the provider.

        With ``carried``, the work contains the piece's bytes, so it takes no place.
        """
        task, progress = self._part(task_id, peer)
        task.give(progress, piece, provider)
        if carried:
            progress.carried |= 1 << piece
            self._carried[peer] += 1
            return
        self._outstanding[peer] += 1
        self._book(peer, provider, 1)

    def succeed(
        self,
        task_id: str,
        peer: str,
        pieces: int,
        size_of: Callable[[int], int],
        *,
        now: float,
        serves: bool = True,
    ) -> list[str] | None:
        """Record that a peer has received and verified pieces (bit mask). Idempotent.

        Returns the providers of the pieces that the peer was given, or ``None`` if nothing is new. ``size_of``
        returns a piece's size in bytes. If the peer ``serves``, other peers may now take these pieces from it.
        """
        task, progress = self._part(task_id, peer)
        known = progress.have & ~progress.withheld if serves else progress.have
        if not pieces & ~known:
            return None
        lapsed, carried = progress.lapsed, progress.carried
        progress.carried &= ~pieces
        given = task.verify(peer, progress, pieces, serves=serves)
        for piece, provider in given.items():
            size = size_of(piece)
            self._account(task, provider, size)
            self.flows.add(task_id, peer, provider, size, now)
            self.service[provider].succeeded += 1
            self._end(peer, provider, booked=not lapsed >> piece & 1, carried=bool(carried >> piece & 1))
        providers = list(given.values())
        self.troubles.succeeded(task_id, peer, providers)
        return providers

    def fail(self, task_id: str, peer: str, piece: int, *, blame: bool) -> str | None:
        """Record that a peer did not receive a given piece. ``blame``: the provider is the cause. Idempotent.

        Returns the provider, or ``None`` if the peer was not given the piece.
        """
        task, progress = self._part(task_id, peer)
        if piece not in progress.given:
            return None
        if blame:
            self.service[progress.given[piece]].failed += 1
        return self._take_back(task, peer, progress, piece)

    def lapse(self, task_id: str, peer: str, piece: int) -> None:
        """Free the place of a given piece at its provider, because the peer does not fetch it. Idempotent.

        The piece stays given, so the peer may still fetch it and report it.
        """
        task, progress = self._part(task_id, peer)
        if progress.expected & ~progress.carried & 1 << piece:
            task.lapse(progress, piece)
            self._book(peer, progress.given[piece], -1)

    def resume(self, task_id: str, peer: str, piece: int) -> None:
        """Book a lapsed place again, because the peer fetches the piece now. Idempotent."""
        task, progress = self._part(task_id, peer)
        if progress.lapsed >> piece & 1:
            task.resume(progress, piece)
            self._book(peer, progress.given[piece], 1)

    def remove_pieces(self, task_id: str, peer: str, pieces: int) -> None:
        task, progress = self._part(task_id, peer)
        task.remove_pieces(peer, progress, pieces)

    def note_full(self, task_id: str, provider: str) -> None:
        """Mark a provider as full: it is not drawn again in this task until one of its places is free."""
        service = self.service.get(provider)
        if service is not None and service.booked:  # otherwise no report would end the mark
            service.full_in.add(task_id)
            self.tasks[task_id].note_full(provider, full=True)

    def outstanding(self, peer: str) -> int:
        """How many pieces a peer must still fetch and report, in all tasks together."""
        return self._outstanding.get(peer, 0)

    def carried(self, peer: str) -> int:
        """How many pieces with their bytes a peer was given and has not reported, in all tasks together."""
        return self._carried.get(peer, 0)

    def release(self, peer: str) -> list[str]:
        """Free all pieces that a peer was given and has not reported. Returns the IDs of their tasks."""
        concerned = []
        for task_id in self._tasks_of.get(peer, ()):
            task = self.tasks[task_id]
            progress = task.peers[peer]
            if progress.given:
                concerned.append(task_id)
            for piece in list(progress.given):
                self._take_back(task, peer, progress, piece)
        return concerned

    def forget_progress(self, task_id: str, peer: str) -> None:
        task = self._swarm(task_id)
        progress = task.peers.get(peer)
        if progress is None:
            return
        for piece in list(progress.given):
            self._take_back(task, peer, progress, piece)
        task.remove_peer(peer)
        self.flows.forget(task_id, peer)
        self.troubles.forget(task_id, peer)
        self._tasks_of[peer].discard(task_id)

    def forget_peer(self, peer: str) -> None:
        """Forget a peer, both as receiver and as provider. Idempotent."""
        for task_id in list(self._tasks_of.get(peer, ())):
            self.forget_progress(task_id, peer)
        self._tasks_of.pop(peer, None)
        service = self.service.pop(peer, None)
        if service is not None and service.booked:  # other peers have places at it, and have not noticed yet
            self.service[peer] = PeerService(booked=service.booked)

    def delete_task(self, task_id: str) -> None:
        task = self.tasks.get(task_id)
        if task is not None:
            for peer in list(task.peers):
                self.forget_progress(task_id, peer)
            del self.tasks[task_id]

    def expire(self, now: float) -> None:
        """Forget the rates of finished downloads, and old troubles."""
        self.flows.expire(now, self.is_unfinished)
        self.troubles.expire(now)

    def is_unfinished(self, task_id: str, peer: str) -> bool:
        """True if a peer takes part in a task and lacks pieces of it."""
        task = self.tasks.get(task_id)
        progress = task.peers.get(peer) if task is not None else None
        return task is not None and progress is not None and (task.arriving or bool(task.copy.cached & ~progress.have))

    def tasks_of(self, peer: str) -> frozenset[str]:
        return frozenset(self._tasks_of.get(peer, ()))

    def pieces_by_cid(self, task_id: str, peer: str) -> int:
        """The pieces that a peer or client has verified, as a bit mask."""
        return self._part(task_id, peer)[1].have

    def peers_by_piece(self, task_id: str, piece: int) -> Iterator[str]:
        return (name for name, progress in self._swarm(task_id).peers.items() if progress.have >> piece & 1)

    def peers_by_task(self, task_id: str) -> Iterator[str]:
        return iter(self._swarm(task_id).peers)

    def _swarm(self, task_id: str) -> TaskProgress:
        try:
            return self.tasks[task_id]
        except KeyError:
            raise NotFoundError(f"Task {task_id[:64]!r} is not known to the scheduler.") from None

    def _part(self, task_id: str, peer: str) -> tuple[TaskProgress, PeerProgress]:
        try:
            task = self.tasks[task_id]
            return task, task.peers[peer]
        except KeyError:
            self._swarm(task_id)  # raises if the task is not known
            raise NotFoundError(f"Peer {peer[:100]!r} does not take part in task {task_id[:64]!r}.") from None

    def _account(self, task: TaskProgress, provider: str, size: int) -> None:
        if provider == SUPERNODE:
            task.supernode_bytes += size
            self.supernode_bytes += size
        else:
            task.peer_bytes += size
            self.peer_bytes += size

    def _take_back(self, task: TaskProgress, peer: str, progress: PeerProgress, piece: int) -> str:
        booked, carried = bool(progress.expected >> piece & 1), bool(progress.carried >> piece & 1)
        provider = task.take_back(progress, piece)
        progress.carried &= ~(1 << piece)
        self._end(peer, provider, booked=booked, carried=carried)
        return provider

    def _end(self, peer: str, provider: str, *, booked: bool, carried: bool) -> None:
        """Record that a peer need not fetch a given piece any more. ``booked``: it has a place at the provider."""
        counts = self._carried if carried else self._outstanding
        counts[peer] -= 1
        if not counts[peer]:
            del counts[peer]
        if not carried:
            self._book(peer, provider, -1 if booked else 0)

    def _book(self, peer: str, provider: str, step: int) -> None:
        if provider != SUPERNODE:
            self.peer_bookings += step
        elif peer == self.local_peer:
            return  # the local peer does not use the supernode's link
        service = self.service[provider]
        service.booked += step
        if step > 0:
            return
        for task_id in service.full_in:
            if task_id in self.tasks:
                self.tasks[task_id].note_full(provider, full=False)
        service.full_in.clear()
        if not service.booked and provider != SUPERNODE and provider not in self._tasks_of:
            del self.service[provider]  # the provider was forgotten meanwhile
