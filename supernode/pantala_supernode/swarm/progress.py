"""Who has which piece, and how well each peer serves: all swarms, and what the peers did in them. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pantala_supernode.errors import EmptyValueError, NotFoundError
from pantala_supernode.swarm.task_progress import SUPERNODE, PeerProgress, TaskProgress


@dataclass(slots=True)
class PeerService:
    """How one peer serves others, over all tasks."""

    booked: int = 0
    """Pieces that others were told to take from it and have not reported yet."""
    succeeded: int = 0
    failed: int = 0
    full_in: set[str] = field(default_factory=set)
    """Tasks in whose swarms it is noted as full."""


class ProgressManager:
    """All tasks' swarms and all peers' service. Unknown tasks and clients raise :class:`NotFoundError`."""

    def __init__(self, neighbour: str = "") -> None:
        self.neighbour = neighbour
        """The client on the supernode's own machine; empty: none is known to be there."""
        self.tasks: dict[str, TaskProgress] = {}
        self.service: defaultdict[str, PeerService] = defaultdict(PeerService)
        """By provider; the supernode is :data:`SUPERNODE`."""
        self.supernode_bytes = 0
        """What clients of all tasks, also of former ones, took from the supernode."""
        self.peer_bytes = 0
        """What they took from each other."""
        self.peer_bookings = 0
        """Pieces that clients were told to take from each other and have not reported yet."""
        self._tasks_of: defaultdict[str, set[str]] = defaultdict(set)
        self._outstanding: defaultdict[str, int] = defaultdict(int)

    def init_task(self, task_id: str) -> TaskProgress:
        """Begin a task's swarm, if it has none."""
        return self.tasks.setdefault(task_id, TaskProgress())

    def init_progress(self, task_id: str, client: str, have: int = 0, *, zone: str = "") -> PeerProgress:
        """Begin a client's progress anew with what it says to have; what it was given before is free again."""
        if not client:
            raise EmptyValueError("a client without a name cannot take part")
        self.forget_client(task_id, client)
        local = client == self.neighbour
        progress = PeerProgress(have=have, zone="" if local else zone, local=local)
        self.tasks[task_id].add(client, progress)
        self._tasks_of[client].add(task_id)
        return progress

    def restart_task(self, task_id: str) -> None:
        """The task has new content: nothing that anybody has of it counts any more. Unknown tasks are begun."""
        task = self.init_task(task_id)
        for client in list(task.clients):
            self.forget_client(task_id, client)
        task.cached = task.verified = 0

    def give(self, task_id: str, client: str, piece: int, provider: str) -> None:
        """A client was told to take a piece from a provider."""
        task, progress = self._part(task_id, client)
        task.give(progress, piece, provider)
        self._book(client, provider, 1)

    def succeed(
        self, task_id: str, client: str, pieces: int, size_of: Callable[[int], int], *, serves: bool = True
    ) -> list[str] | None:
        """A client verified pieces. Idempotent. Returns the providers that are free of one each; ``None``: no news.

        ``size_of`` tells the bytes of a piece, for the account of who served. ``serves``: others may take them from it;
        once said, that stays.
        """
        task, progress = self._part(task_id, client)
        known = progress.have & ~progress.withheld if serves else progress.have
        if not pieces & ~known:
            return None
        given = task.verify(client, progress, pieces, serves=serves)
        for piece, provider in given.items():
            self._account(task, provider, size_of(piece))
            self.service[provider].succeeded += 1
            self._book(client, provider, -1)
        return list(given.values())

    def fail(self, task_id: str, client: str, piece: int, *, blame: bool) -> str | None:
        """A client could not have a piece that it was given. Idempotent.

        Returns the provider, or ``None`` if the piece was not given to it (any more). ``blame``: it counts against the
        provider.
        """
        task, progress = self._part(task_id, client)
        if piece not in progress.given:
            return None
        if blame:
            self.service[progress.given[piece]].failed += 1
        return self._take_back(task, client, progress, piece)

    def lose(self, task_id: str, client: str, pieces: int) -> None:
        """A client turned out not to have pieces that it had reported."""
        task, progress = self._part(task_id, client)
        task.lose(client, progress, pieces)

    def note_full(self, task_id: str, provider: str) -> None:
        """A provider was found to have as many pieces booked as it serves: it is not looked at until it has room."""
        service = self.service.get(provider)
        if service is not None and service.booked:  # else nothing would ever say that it has room
            service.full_in.add(task_id)
            self.tasks[task_id].note_full(provider, full=True)

    def outstanding(self, client: str) -> int:
        """How many pieces a client was given and did not report, over all tasks."""
        return self._outstanding.get(client, 0)

    def release(self, client: str) -> list[str]:
        """All that a client was given is free again (it died or restarted). Returns the tasks concerned."""
        concerned = []
        for task_id in self._tasks_of.get(client, ()):
            task = self.tasks[task_id]
            progress = task.clients[client]
            if progress.given:
                concerned.append(task_id)
            for piece in list(progress.given):
                self._take_back(task, client, progress, piece)
        return concerned

    def forget_client(self, task_id: str, client: str) -> None:
        """A client's progress of one task is gone. Idempotent."""
        task = self._swarm(task_id)
        progress = task.clients.get(client)
        if progress is None:
            return
        for piece in list(progress.given):
            self._take_back(task, client, progress, piece)
        task.remove(client)
        self._tasks_of[client].discard(task_id)

    def forget_peer(self, client: str) -> None:
        """A peer is gone, as client and as provider. Idempotent."""
        for task_id in list(self._tasks_of.get(client, ())):
            self.forget_client(task_id, client)
        self._tasks_of.pop(client, None)
        service = self.service.pop(client, None)
        if service is not None and service.booked:  # by others, who have not noticed yet
            self.service[client] = PeerService(booked=service.booked)

    def delete_task(self, task_id: str) -> None:
        """A task is gone, with all progress of it. Idempotent."""
        task = self.tasks.get(task_id)
        if task is not None:
            for client in list(task.clients):
                self.forget_client(task_id, client)
            del self.tasks[task_id]

    def tasks_of(self, client: str) -> frozenset[str]:
        """The tasks that a client takes part in."""
        return frozenset(self._tasks_of.get(client, ()))

    def pieces_by_cid(self, task_id: str, client: str) -> int:
        """The pieces that a client verified."""
        return self._part(task_id, client)[1].have

    def peers_by_piece(self, task_id: str, piece: int) -> Iterator[str]:
        """The clients that hold a piece."""
        return (name for name, client in self._swarm(task_id).clients.items() if client.have >> piece & 1)

    def peers_by_task(self, task_id: str) -> Iterator[str]:
        """The clients of a task."""
        return iter(self._swarm(task_id).clients)

    def _swarm(self, task_id: str) -> TaskProgress:
        try:
            return self.tasks[task_id]
        except KeyError:
            raise NotFoundError(f"task {task_id[:64]!r} has no swarm") from None

    def _part(self, task_id: str, client: str) -> tuple[TaskProgress, PeerProgress]:
        task = self._swarm(task_id)
        try:
            return task, task.clients[client]
        except KeyError:
            raise NotFoundError(f"{client[:100]!r} takes no part in the swarm of task {task_id[:64]!r}") from None

    def _account(self, task: TaskProgress, provider: str, size: int) -> None:
        if provider == SUPERNODE:
            task.supernode_bytes += size
            self.supernode_bytes += size
        else:
            task.peer_bytes += size
            self.peer_bytes += size

    def _take_back(self, task: TaskProgress, client: str, progress: PeerProgress, piece: int) -> str:
        provider = task.take_back(progress, piece)
        self._book(client, provider, -1)
        return provider

    def _book(self, client: str, provider: str, step: int) -> None:
        self._outstanding[client] += step
        if not self._outstanding[client]:
            del self._outstanding[client]
        if provider != SUPERNODE:
            self.peer_bookings += step
        elif client == self.neighbour:
            return  # it takes nothing of the link that the supernode has room on
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
