"""The answer to ``GET /api/v1/progress``: how far the unfinished downloads are, and which peers are silent."""

import asyncio
from collections.abc import Callable, Mapping
from itertools import chain

from pantala_pieces.errors import StoreError
from pantala_protocol.console.progress import Inflow, NodeDownload, Progress, SilentPeer, TaskProgressView
from pantala_protocol.reasons import Reason
from pantala_protocol.task_id import TaskID
from pantala_supernode.cdn.manager import CDNManager
from pantala_supernode.swarm.flows import FlowMeter
from pantala_supernode.swarm.scheduler import Managers
from pantala_supernode.sync.server import SyncServer
from pantala_supernode.sync.session import PeerSession
from pantala_supernode.tasks.copy import Copy

_MOST_FLOWS = 8
"""The most providers that the answer names for one download."""
_MOST_DOWNLOADS = 20_000
"""The most downloads that the answer names. 10,000 waiting tasks on 1,000 nodes are ten million downloads."""
_AT_ONCE = 200
"""The number of downloads that are described without a pause for other work."""


class Overview:
    """Describes what happens now.

    ``sessions`` has the sessions of all peers. ``clock`` returns monotonic seconds, and ``wall`` seconds since the
    epoch. The answer names at most ``most`` downloads. Downloads with a rate come first.
    """

    def __init__(
        self,
        boot: str,
        managers: Managers,
        sync: SyncServer,
        sessions: Mapping[str, PeerSession],
        cdn: CDNManager,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        most: int = _MOST_DOWNLOADS,
    ) -> None:
        self._boot = boot
        self._managers = managers
        self._progress = managers.progress
        self._sync = sync
        self._sessions = sessions
        self._cdn = cdn
        self._clock = clock
        self._wall = wall
        self._most = most
        self._silent: dict[str, float] = {}
        """The silent peers, and when the last exchange of each began, in monotonic seconds."""
        self._asked_at = float("-inf")

    def asked_since(self, moment: float) -> bool:
        """True if a leading operator has asked for progress since this monotonic time. It pauses for 2 s at most."""
        return self._asked_at > moment

    def tick(self) -> None:
        self._cdn.tick(self._clock())

    async def progress(self) -> Progress:
        """The state of the volume, of all silent peers, and of all downloads that are unfinished or have a rate."""
        self._asked_at = self._clock()
        nodes: dict[str, list[NodeDownload]] = {}
        for number, (task_id, peer) in enumerate(self._downloads()):
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)  # ten thousand downloads must not delay the peers
            described = self._download(task_id, peer)
            if described is not None:
                nodes.setdefault(task_id, []).append(described)
        tasks = dict.fromkeys((*nodes, *self._cdn.worker.arrivals))
        size, free = await self._volume()
        return Progress(
            boot=self._boot,
            at=self._wall(),
            tasks=tuple(self._task(task_id, tuple(nodes.get(task_id, ()))) for task_id in tasks),
            silent=self._silent_peers(),
            volume_bytes=size,
            volume_free=free,
        )

    def _downloads(self) -> list[tuple[str, str]]:
        """The task and the peer of each download, up to a limit. Downloads with recent bytes come first."""
        unfinished = (
            (task_id, peer)
            for peer, session in self._sessions.items()
            for task_id in chain(session.open_tasks, session.small_tasks)
        )
        found: dict[tuple[str, str], None] = {}
        for each in chain(self._progress.flows, unfinished):
            if len(found) == self._most:
                break
            found[each] = None
        return list(found)

    def _download(self, task_id: str, peer: str) -> NodeDownload | None:
        """Describe one download. ``None``: it has ended, or it is the download of a client of Dragonfly."""
        swarm, session = self._progress.tasks.get(task_id), self._sessions.get(peer)
        part = swarm.peers.get(peer) if swarm is not None else None
        if swarm is None or part is None or session is None or session.path is not None:
            return None
        meter, now = self._progress.flows.get(task_id, peer), self._clock()
        rates = meter.rates(now) if meter is not None else {}
        if not rates and not self._is_unfinished(task_id, peer):
            return None
        latest = meter.latest if meter is not None else 0.0
        trouble = self._progress.troubles.find(task_id, peer, latest=latest, now=now)
        return NodeDownload(
            peer,
            bytes=_held_bytes(swarm.copy, part.have),
            rate=round(sum(rates.values())),
            flows=_flows(meter, rates) if meter is not None else (),
            reason=trouble.reason if trouble is not None else "",
            message=trouble.message if trouble is not None else "",
            since=self._wall() - (now - trouble.since) if trouble is not None else 0.0,
            pace=round(meter.pace(now)) if meter is not None else 0,
        )

    def _is_unfinished(self, task_id: str, peer: str) -> bool:
        task = self._managers.tasks.get(task_id)
        return task is not None and task.runs_on(peer) and self._progress.is_unfinished(task_id, peer)

    def _task(self, task_id: str, nodes: tuple[NodeDownload, ...]) -> TaskProgressView:
        arrival, swarm = self._cdn.worker.arrivals.get(TaskID(task_id)), self._progress.tasks.get(task_id)
        now = self._clock()
        slow_since = arrival.slow_since if arrival is not None else None
        return TaskProgressView(
            task_id,
            origin_rate=round(arrival.rate(now)) if arrival is not None else 0,
            reason=Reason.SOURCE_SLOW if slow_since is not None else "",
            message=arrival.problem if arrival is not None and slow_since is not None else "",
            since=self._wall() - (now - slow_since) if slow_since is not None else 0.0,
            nodes=nodes,
            origin_pace=round(arrival.pace(now)) if arrival is not None else 0,
            origin_bytes=swarm.copy.origin_bytes if swarm is not None else 0,
            supernode_bytes=swarm.supernode_bytes if swarm is not None else 0,
            peer_bytes=swarm.peer_bytes if swarm is not None else 0,
        )

    def _silent_peers(self) -> tuple[SilentPeer, ...]:
        """The peers whose exchange is overdue. A peer that a task needs is listed even after it was removed."""
        now, sessions, tasks = self._clock(), self._sessions, self._managers.tasks
        removed = {
            name: heard
            for name, heard in self._silent.items()
            if name not in sessions and any(task.runs_on(name) for task in tasks)
        }
        self._silent = removed | {
            peer.name: session.last_heard
            for peer in self._managers.peers
            if not peer.leaving
            and (session := sessions.get(peer.name)) is not None
            and session.path is None
            and self._sync.is_silent(session, now)
        }
        wall = self._wall()
        return tuple(SilentPeer(name, wall - (now - heard)) for name, heard in self._silent.items())

    async def _volume(self) -> tuple[int, int]:
        """The size of the volume, and its free bytes. Zeros if the volume cannot be read."""
        try:
            usage = await asyncio.to_thread(self._cdn.copies.store.usage)
        except StoreError:
            return 0, 0
        return usage.total, usage.free


def _flows(meter: FlowMeter, rates: Mapping[str, float]) -> tuple[Inflow, ...]:
    most = sorted(meter.sums.items(), key=lambda each: -each[1])[:_MOST_FLOWS]
    return tuple(Inflow(provider, amount, round(rates.get(provider, 0.0))) for provider, amount in most)


def _held_bytes(copy: Copy, have: int) -> int:
    """The bytes of the pieces ``have``, a bit mask. Only the last piece may be shorter."""
    held, total = have.bit_count() * copy.piece_size, copy.total
    if total and copy.length is not None and have >> (total - 1) & 1:
        held -= total * copy.piece_size - copy.length
    return held
