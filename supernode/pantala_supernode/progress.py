"""Who has which piece, and how well each peer serves.

Pieces of a client are two integers used as sets, so that a question about all pieces is one operation. Rarity is kept
as one set of pieces per level and moved piece by piece, never computed over all. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pantala_protocol import ranges

SUPERNODE = ""
"""The supernode's name as a provider."""


@dataclass(slots=True)
class ClientProgress:
    """One client's pieces of one task."""

    have: int = 0
    """Verified by the client."""
    withheld: int = 0
    """Of those it has, the ones it cannot serve (yet)."""
    given: dict[int, str] = field(default_factory=dict)
    """Given and not reported yet: piece -> provider."""
    given_mask: int = 0
    seeds: int = 0
    """Pieces it got from the supernode, for the fair share of them."""

    @property
    def served(self) -> int:
        """The pieces that others may take from it."""
        return self.have & ~self.withheld


@dataclass(slots=True)
class PeerService:
    """How one peer serves others, over all tasks."""

    booked: int = 0
    """Pieces that others were told to take from it and have not reported yet."""
    succeeded: int = 0
    failed: int = 0
    streak: int = 0
    """Failures since the last success."""
    accusers: set[str] = field(default_factory=set)
    """Who said, since the last success, that its bytes were wrong."""


def _level(copies: int) -> int:
    """Rarity level of a piece: exact below 8 copies, then 4 levels for each doubling."""
    if copies < 8:
        return copies
    power = copies.bit_length() - 1
    return 8 + (power - 3) * 4 + ((copies >> (power - 2)) & 3)


class TaskProgress:
    """One task's swarm: the supernode's pieces, each client's, and how rare each piece is among the clients."""

    def __init__(self) -> None:
        self.cached = 0
        """Pieces that the supernode can serve."""
        self.arriving = False
        """More of them are to come from the origin."""
        self.supernode_bytes = 0
        """What clients took from the supernode since the swarm began."""
        self.peer_bytes = 0
        """What clients took from each other."""
        self.clients: dict[str, ClientProgress] = {}
        self.members: list[str] = []
        """The clients' names, in no order: to draw a sample without walking over all."""
        self._place: dict[str, int] = {}
        self._busy = 0
        self._busy_seeds = 0
        self._copies: defaultdict[int, int] = defaultdict(int)
        self._levels: dict[int, int] = {}
        self._counted = 0

    @property
    def seeds(self) -> int:
        """Cached pieces that no client has or was given."""
        return self.cached & ~self._counted

    def rarest_of(self, pieces: int) -> int:
        """Those of ``pieces`` with the fewest copies (held or given)."""
        fresh = pieces & ~self._counted
        if fresh:
            return fresh
        for level in sorted(self._levels):
            rarest = pieces & self._levels[level]
            if rarest:
                return rarest
        return 0

    def copies(self, piece: int) -> int:
        """How many clients hold the piece or were given it."""
        return self._copies[piece] if self._counted >> piece & 1 else 0

    def count(self, pieces: int, step: int) -> None:
        """Count one copy more or less (``step`` 1 or -1) of each of ``pieces``."""
        for piece in ranges.members(pieces):
            bit = 1 << piece
            before = self._copies[piece]
            after = self._copies[piece] = before + step
            if before:
                self._move(bit, _level(before), out=True)
            if after:
                self._move(bit, _level(after), out=False)
                self._counted |= bit
            else:
                del self._copies[piece]
                self._counted &= ~bit

    def add(self, client: str, progress: ClientProgress) -> None:
        """A client takes part."""
        self.clients[client] = progress
        self._place[client] = len(self.members)
        self.members.append(client)

    def remove(self, client: str) -> None:
        """A client does not take part any more."""
        del self.clients[client]
        place, last = self._place.pop(client), self.members.pop()
        if last != client:
            self.members[place] = last
            self._place[last] = place

    def give(self, progress: ClientProgress, piece: int, provider: str) -> None:
        """Book a piece for a client."""
        if not progress.given:
            self._busy += 1
            self._busy_seeds += progress.seeds
        if provider == SUPERNODE:
            progress.seeds += 1
            self._busy_seeds += 1
        progress.given[piece] = provider
        progress.given_mask |= 1 << piece
        self.count(1 << piece, 1)

    def take_back(self, progress: ClientProgress, piece: int) -> str:
        """The piece is not given any more. Returns who was to serve it."""
        provider = progress.given.pop(piece)
        progress.given_mask &= ~(1 << piece)
        if not progress.given:
            self._busy -= 1
            self._busy_seeds -= progress.seeds
        self.count(1 << piece, -1)
        return provider

    def had_its_share(self, progress: ClientProgress) -> bool:
        """Whether a client had more pieces from the supernode than the mean of those at work, and can wait for more."""
        return bool(progress.given) and progress.seeds * self._busy > self._busy_seeds

    def _move(self, bit: int, level: int, *, out: bool) -> None:
        mask = self._levels.get(level, 0) ^ bit
        if out and not mask:
            del self._levels[level]
        else:
            self._levels[level] = mask


class ProgressManager:
    """All tasks' swarms and all peers' service. Unknown tasks and clients raise :class:`KeyError`."""

    def __init__(self) -> None:
        self.tasks: dict[str, TaskProgress] = {}
        self.service: defaultdict[str, PeerService] = defaultdict(PeerService)
        """By provider; the supernode is :data:`SUPERNODE`."""
        self._tasks_of: defaultdict[str, set[str]] = defaultdict(set)

    def init_task(self, task_id: str) -> TaskProgress:
        """Begin a task's swarm, if it has none."""
        return self.tasks.setdefault(task_id, TaskProgress())

    def init_progress(self, task_id: str, client: str, have: int = 0) -> ClientProgress:
        """Begin a client's progress anew with what it says to have; what it was given before is free again."""
        self.forget_client(task_id, client)
        task = self.tasks[task_id]
        progress = ClientProgress(have=have)
        task.add(client, progress)
        self._tasks_of[client].add(task_id)
        task.count(have, 1)
        return progress

    def restart_task(self, task_id: str) -> None:
        """The task has new content: nothing that anybody has of it counts any more. Unknown tasks are begun."""
        task = self.init_task(task_id)
        for client in list(task.clients):
            self.forget_client(task_id, client)
        task.cached = 0

    def give(self, task_id: str, client: str, piece: int, provider: str) -> None:
        """A client was told to take a piece from a provider."""
        task = self.tasks[task_id]
        task.give(task.clients[client], piece, provider)
        self.service[provider].booked += 1

    def succeed(
        self, task_id: str, client: str, pieces: int, size_of: Callable[[int], int], *, serves: bool = True
    ) -> list[str]:
        """A client verified pieces. Idempotent. Returns the providers that are free of one each.

        ``size_of`` tells the bytes of a piece, for the account of who served. ``serves``: others may take them from it;
        once said, that stays.
        """
        task = self.tasks[task_id]
        progress = task.clients[client]
        news = pieces & ~progress.have
        providers = []
        for piece in ranges.members(news & progress.given_mask):
            provider = self._take_back(task, progress, piece)
            providers.append(provider)
            if provider == SUPERNODE:
                task.supernode_bytes += size_of(piece)
            else:
                task.peer_bytes += size_of(piece)
            service = self.service[provider]
            service.succeeded += 1
            service.streak = 0
            service.accusers.discard(client)
        progress.have |= news
        progress.withheld = progress.withheld & ~pieces if serves else progress.withheld | news
        task.count(news, 1)
        return providers

    def fail(self, task_id: str, client: str, piece: int, *, blame: bool, corrupt: bool = False) -> str | None:
        """A client could not have a piece that it was given. Idempotent.

        Returns the provider, or ``None`` if the piece was not given to it (any more). ``blame``: it counts against the
        provider, ``corrupt``: the bytes were wrong.
        """
        task = self.tasks[task_id]
        progress = task.clients[client]
        if piece not in progress.given:
            return None
        provider = self._take_back(task, progress, piece)
        if blame:
            service = self.service[provider]
            service.failed += 1
            service.streak += 1
            if corrupt:
                service.accusers.add(client)
        return provider

    def lose(self, task_id: str, client: str, pieces: int) -> None:
        """A client turned out not to have pieces that it had reported."""
        task = self.tasks[task_id]
        progress = task.clients[client]
        lost = pieces & progress.have
        progress.have &= ~lost
        task.count(lost, -1)

    def release(self, client: str) -> list[str]:
        """All that a client was given is free again (it died or restarted). Returns the tasks concerned."""
        concerned = []
        for task_id in self._tasks_of.get(client, ()):
            task = self.tasks[task_id]
            progress = task.clients[client]
            if progress.given:
                concerned.append(task_id)
            for piece in list(progress.given):
                self._take_back(task, progress, piece)
        return concerned

    def forget_client(self, task_id: str, client: str) -> None:
        """A client's progress of one task is gone. Idempotent."""
        task = self.tasks[task_id]
        progress = task.clients.get(client)
        if progress is None:
            return
        for piece in list(progress.given):
            self._take_back(task, progress, piece)
        task.count(progress.have, -1)
        task.remove(client)
        self._tasks_of[client].discard(task_id)

    def forget_peer(self, client: str) -> None:
        """A peer is gone, as client and as provider. Idempotent."""
        for task_id in list(self._tasks_of.get(client, ())):
            self.forget_client(task_id, client)
        self._tasks_of.pop(client, None)
        self.service.pop(client, None)

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
        return self.tasks[task_id].clients[client].have

    def peers_by_piece(self, task_id: str, piece: int) -> Iterator[str]:
        """The clients that hold a piece."""
        return (name for name, client in self.tasks[task_id].clients.items() if client.have >> piece & 1)

    def peers_by_task(self, task_id: str) -> Iterator[str]:
        """The clients of a task."""
        return iter(self.tasks[task_id].clients)

    def _take_back(self, task: TaskProgress, progress: ClientProgress, piece: int) -> str:
        provider = task.take_back(progress, piece)
        service = self.service.get(provider)
        if service is not None and service.booked:
            service.booked -= 1
        return provider
