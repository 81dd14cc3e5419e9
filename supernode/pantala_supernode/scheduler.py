"""Which client takes which piece from whom. Pure: chance and time are passed in.

The policy was found by simulation and measured: small windows, seeds spread, the least loaded of a sample and then
*its* rarest piece. In order of weight: a client has few pieces given and not reported; a provider has few booked;
while a cached piece is with nobody, the supernode gives only such pieces; who had more than its share of them waits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Protocol, TypeVar

from pantala_supernode.progress import ProgressManager
from pantala_supernode.swarm import SUPERNODE, ClientProgress, TaskProgress

T = TypeVar("T")


class Chance(Protocol):
    """What is used of :class:`random.Random`."""

    def randrange(self, stop: int, /) -> int:
        """A number of ``range(stop)``."""

    def sample(self, population: list[T], k: int) -> list[T]:
        """``k`` different members."""

    def choices(self, population: list[T], *, k: int) -> list[T]:
        """``k`` members; the same may come more than once."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The scheduler's limits."""

    window: int = 4
    """Pieces given to one client and not reported. More pins pieces in queues: 16 costs 70 % of the time."""
    peer_uploads: int = 4
    """Pieces booked at one peer. Below ``window`` single peers starve."""
    supernode_uploads: int = 8
    """Pieces booked at the supernode: a receiver gives each sender a part of its link only, so it must serve many."""
    sample: int = 16
    """Providers and held clients looked at for one decision."""
    blacklist_seconds: float = 30.0
    """How long a client is not sent again to a provider that failed it."""
    streak_limit: int = 5
    """Failures in a row after which a peer is offered to nobody for a while."""
    accuser_limit: int = 2
    """Clients that must say that a peer's bytes are wrong before it is offered to nobody: one may lie."""
    quarantine_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class PieceInfo:
    """One decision."""

    piece: int
    provider: str


class SchedulerManager:
    """Decides over the swarms of a :class:`ProgressManager`, and books what it decides.

    ``can_serve`` tells whether a peer is connected and takes requests.
    """

    def __init__(
        self, progress: ProgressManager, *, policy: Policy, chance: Chance, can_serve: Callable[[str], bool]
    ) -> None:
        self.policy = policy
        self._progress = progress
        self._chance = chance
        self._can_serve = can_serve
        self._blacklist: dict[tuple[str, str], float] = {}
        self._quarantine: dict[str, float] = {}

    def schedule(self, task_id: str, client: str, *, room: int, now: float) -> list[PieceInfo]:
        """Give ``client`` up to ``room`` pieces of a task, and book them. Empty: nothing to be had now."""
        task = self._progress.tasks[task_id]
        progress = task.clients[client]
        decided: list[PieceInfo] = []
        while len(decided) < room:
            info = self._choose(task, client, progress, now)
            if info is None:
                break
            self._progress.give(task_id, client, info.piece, info.provider)
            decided.append(info)
        return decided

    def room(self, client: str) -> int:
        """How many pieces more a client may be given, over all its tasks."""
        given = sum(
            len(self._progress.tasks[task_id].clients[client].given) for task_id in self._progress.tasks_of(client)
        )
        return max(0, self.policy.window - given)

    def next_in_line(self, task_id: str, waiting: list[str]) -> list[str]:
        """Of the clients that wait for a piece of a task, a sample: those with the fewest pieces first."""
        clients = self._progress.tasks[task_id].clients
        known = [name for name in waiting if name in clients]
        some = known if len(known) <= self.policy.sample else self._chance.sample(known, self.policy.sample)
        return sorted(some, key=lambda name: clients[name].have.bit_count())

    def failed(self, client: str, provider: str, *, now: float) -> None:
        """A provider failed a client: keep them apart for a while, and the provider from all if it fails many."""
        if provider == SUPERNODE:
            return
        self._blacklist[client, provider] = now + self.policy.blacklist_seconds
        service = self._progress.service[provider]
        if service.streak >= self.policy.streak_limit or len(service.accusers) >= self.policy.accuser_limit:
            self._quarantine[provider] = now + self.policy.quarantine_seconds
            service.streak = 0
            service.accusers.clear()

    def forget(self, peer: str) -> None:
        """A peer is gone: nothing is held against it any more."""
        self._quarantine.pop(peer, None)
        self._blacklist = {pair: until for pair, until in self._blacklist.items() if peer not in pair}

    def expire(self, now: float) -> None:
        """Drop what no longer holds."""
        self._blacklist = {pair: until for pair, until in self._blacklist.items() if until > now}
        self._quarantine = {peer: until for peer, until in self._quarantine.items() if until > now}

    def _choose(self, task: TaskProgress, client: str, progress: ClientProgress, now: float) -> PieceInfo | None:
        missing = task.cached & ~(progress.have | progress.given_mask)
        seed = self._seed(task, progress, missing)
        if seed is not None:
            return seed
        sample = self._sample(task)
        provider = self._provider(task, sample, client, missing, now)
        if provider is not None:
            pieces = task.clients[provider].served & missing
            return PieceInfo(self._any(task.rarest_of(pieces)), provider)
        return self._assistance(task, sample, missing)

    def _seed(self, task: TaskProgress, progress: ClientProgress, missing: int) -> PieceInfo | None:
        seeds = task.seeds & missing
        if not seeds or not self._supernode_has_room() or task.had_its_share(progress):
            return None
        return PieceInfo(self._any(seeds), SUPERNODE)

    def _assistance(self, task: TaskProgress, sample: list[str], missing: int) -> PieceInfo | None:
        """A piece that the supernode gives once more, since no peer can.

        While the file arrives, one that is on its way to a peer is not given: that peer can serve it in a moment, and
        nobody is done before the last piece came. Else a slow origin would make the supernode send all copies.
        """
        if task.arriving:
            held = reduce(or_, (task.clients[name].have for name in sample), 0)
            missing &= held
        if not missing or task.seeds or not self._supernode_has_room():
            return None
        return PieceInfo(self._any(task.rarest_of(missing)), SUPERNODE)

    def _sample(self, task: TaskProgress) -> list[str]:
        if len(task.members) <= self.policy.sample:
            return task.members
        return self._chance.choices(task.members, k=self.policy.sample)  # one twice does no harm, and costs a fifth

    def _provider(self, task: TaskProgress, sample: list[str], client: str, missing: int, now: float) -> str | None:
        able = [name for name in sample if task.clients[name].served & missing and self._may_serve(client, name, now)]
        if not able:
            return None
        loads = {name: self._progress.service[name].booked for name in able}
        least = min(loads.values())
        lightest = [name for name in able if loads[name] == least]
        return lightest[self._chance.randrange(len(lightest))]

    def _may_serve(self, client: str, provider: str, now: float) -> bool:
        return (
            provider != client
            and self._progress.service[provider].booked < self.policy.peer_uploads
            and self._quarantine.get(provider, 0.0) <= now
            and self._blacklist.get((client, provider), 0.0) <= now
            and self._can_serve(provider)
        )

    def _supernode_has_room(self) -> bool:
        return self._progress.service[SUPERNODE].booked < self.policy.supernode_uploads

    def _any(self, pieces: int) -> int:
        """A random member of a set that is not empty."""
        shift = self._chance.randrange(pieces.bit_length())
        upper = pieces >> shift
        if upper:
            return shift + (upper & -upper).bit_length() - 1
        return (pieces & -pieces).bit_length() - 1
