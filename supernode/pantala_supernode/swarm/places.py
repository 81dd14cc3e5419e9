"""The places at providers. Each place belongs to a peer that fetches a piece. Pure.

A provider has a few places. A piece that a peer is given takes a place until the peer reports the piece. A dead peer
would keep its places for long. The supernode sees the requests for its own pieces. If a peer does not request its piece
within two usual piece times, the place lapses: the provider can serve another peer. Then the peer's other places lapse
too. If the peer requests the piece later, the supernode still serves it, and the peer takes a place again.

The supernode does not see requests to other providers, or what follows after it sent a piece. Such *unseen* places
lapse later.
"""

import heapq
import itertools
from collections import Counter
from dataclasses import dataclass

from pantala_supernode.swarm.limits import PieceTimes, SchedulingPolicy
from pantala_supernode.swarm.progress import ProgressManager
from pantala_supernode.swarm.task_progress import SUPERNODE

_UNKNOWN = 10.0
"""Seconds until an unseen place lapses, while no usual piece time is known."""
_LEAST_UNSEEN = 2.5
"""The fewest seconds until an unseen place lapses, once a usual piece time is known."""
_REST = 5.0
"""Seconds between two checks of a place that has lapsed, or whose piece is being fetched."""
_MOMENT = 0.01
"""The fewest seconds between two checks of a place."""
_UNSEEN = 4.0
"""Usual piece times until an unseen place lapses. The number is high, because the peer may still fetch the piece."""

_Key = tuple[str, str, int]
"""Task, peer and piece."""


@dataclass(slots=True)
class _Place:
    provider: str
    given_at: float
    moved_at: float
    """When the piece was given, or when its last fetch from the supernode ended, in monotonic seconds."""
    fetches: int = 0
    """The number of requests for the piece that the supernode is answering now."""
    sent: bool = False
    """True if the supernode sent the whole piece."""
    look_at: float = 0.0
    """When to check the place next."""


class Places:
    """Gives the places of a :class:`ProgressManager`, and takes back unused ones. ``now``: monotonic seconds."""

    def __init__(self, progress: ProgressManager, policy: SchedulingPolicy) -> None:
        self._progress = progress
        self._policy = policy
        self._times = PieceTimes()
        self._places: dict[_Key, _Place] = {}
        self._fetches: Counter[str] = Counter()
        """The number of requests that the supernode is answering now, by peer."""
        self._looks: list[tuple[float, int, _Key, _Place]] = []
        """The next check of each place, as a heap. With 10,000 peers, a check of all places would take 0.1 s."""
        self._numbers = itertools.count()

    @property
    def empty(self) -> bool:
        """True if no peer has a place."""
        return not self._places

    def give(self, task_id: str, peer: str, piece: int, provider: str, *, now: float) -> None:
        """Record that a peer was given a piece, which it must take from ``provider`` now."""
        self._progress.give(task_id, peer, piece, provider)
        key = (task_id, peer, piece)
        self._remove(key)
        place = self._places[key] = _Place(provider, now, now)
        self._look(key, place, now + (self._policy.least_patience if provider == SUPERNODE else _LEAST_UNSEEN))

    def begun(self, task_id: str, peer: str, piece: int, *, now: float) -> None:
        """Record that a peer begins to fetch a piece from the supernode. If the peer has no place, it takes one."""
        task = self._progress.tasks.get(task_id)
        progress = task.peers.get(peer) if task is not None else None
        if task is None or progress is None or progress.have >> piece & 1 or not task.copy.cached >> piece & 1:
            return
        if piece not in progress.given:
            self.give(task_id, peer, piece, SUPERNODE, now=now)
        place = self._places.get((task_id, peer, piece))
        if place is not None and place.provider == progress.given[piece] == SUPERNODE:
            place.fetches += 1
            self._fetches[peer] += 1
            self._progress.resume(task_id, peer, piece)

    def ended(self, task_id: str, peer: str, piece: int, *, whole: bool, now: float) -> None:
        """Record that a fetch of a piece from the supernode has ended. ``whole``: all bytes were sent."""
        key = (task_id, peer, piece)
        place = self._places.get(key)
        if place is not None and place.fetches:
            place.fetches -= 1
            self._fetches[peer] -= 1
            place.sent, place.moved_at = whole, now
            self._look(key, place, now + self._policy.least_patience)

    def reported(self, task_id: str, peer: str, pieces: int, *, now: float) -> None:
        """Record that a peer reports that it has ``pieces`` (bit mask)."""
        swarm = self._progress.tasks.get(task_id)
        given = swarm.peers[peer].given if swarm is not None and peer in swarm.peers else {}
        for piece in [piece for piece in given if pieces >> piece & 1]:
            place = self._remove((task_id, peer, piece))
            if place is not None:
                self._times.note(peer, now - place.given_at)

    def forget(self, peer: str) -> None:
        self._times.forget(peer)
        for key in [key for key in self._places if key[1] == peer]:
            self._remove(key)
        self._fetches.pop(peer, None)

    def expire(self, now: float) -> set[str]:
        """Free the places that are not used. Returns the IDs of the tasks in which a place lapsed."""
        tasks = self._progress.tasks
        silent: dict[tuple[str, str], None] = {}
        while self._looks and self._looks[0][0] <= now:
            look_at, _, key, place = heapq.heappop(self._looks)
            if self._places.get(key) is not place or place.look_at != look_at:
                continue  # the piece was reported, or a later check is planned
            task_id, peer, piece = key
            progress = tasks[task_id].peers.get(peer) if task_id in tasks else None
            if progress is None or progress.given.get(piece) != place.provider:
                self._remove(key)  # the piece was taken back
            elif place.fetches or not progress.expected >> piece & 1:
                self._look(key, place, now + _REST)
            elif now - place.moved_at > (patience := self._patience(peer, place)):
                self._progress.lapse(task_id, peer, piece)
                silent[task_id, peer] = None
                self._look(key, place, now + _REST)
            else:
                self._look(key, place, max(place.moved_at + patience, now + _MOMENT))
        for task_id, peer in silent:
            if not self._fetches[peer]:
                for piece in list(tasks[task_id].peers[peer].given):
                    self._progress.lapse(task_id, peer, piece)
        return {task_id for task_id, _ in silent}

    def _look(self, key: _Key, place: _Place, when: float) -> None:
        place.look_at = when
        heapq.heappush(self._looks, (when, next(self._numbers), key, place))

    def _remove(self, key: _Key) -> _Place | None:
        place = self._places.pop(key, None)
        if place is not None and place.fetches:
            self._fetches[key[1]] -= place.fetches
        return place

    def _patience(self, peer: str, place: _Place) -> float:
        """How many seconds a place is kept without a request for its piece."""
        usual, policy = self._times.usual(peer), self._policy
        if place.provider == SUPERNODE and not place.sent:
            return min(max(2 * usual if usual is not None else 1.0, policy.least_patience), policy.most_patience)
        return max(_UNSEEN * usual, _LEAST_UNSEEN) if usual is not None else _UNKNOWN
