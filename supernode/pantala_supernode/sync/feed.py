"""The feed of changes for the operator: reports about the Task resources and peers that changed."""

import asyncio
from collections import OrderedDict

from pantala_protocol import ranges
from pantala_protocol.nodes.sets import NodeTable
from pantala_protocol.statement import CDNStatus, Changes, Failure, PeerReport, TaskReport, WantedTask
from pantala_protocol.sync import DeliveryStatus
from pantala_supernode.swarm.scheduler import Managers
from pantala_supernode.tasks.task import Task
from pantala_supernode.volume.epochs import EpochFence

MAX_FAILURES = 10
"""The most failures of peers in one report, because the status of a resource must stay small."""

_AT_ONCE = 64
"""The number of reports that are made without a pause for other work."""
_KEPT = 10_000
"""The most dropped Task resources that are remembered. An operator that is further behind gets a full report."""
_COALESCE = 0.1
"""Seconds for which changes are collected before an answer, so that there are at most ten answers a second."""


def _refused(task: Task, wanted: WantedTask) -> TaskReport:
    """The report about a Task resource whose namespace has no quota left for the file."""
    failure = task.refusals[wanted.namespace].failure
    return TaskReport(wanted.uid, task.id, wanted.attempt, CDNStatus.FAILED, failure=failure)


class ChangeFeed:
    """Numbers all changes. Reports the changes after a given number, which is called the version."""

    def __init__(self, boot: str, managers: Managers, fence: EpochFence) -> None:
        self._boot = boot
        self._managers = managers
        self._fence = fence
        self._version = 0
        self._touched: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._forgotten = 0
        """The version of the last change that was forgotten."""
        self._most = 2 * _KEPT
        """If more changes are remembered, those of dropped Task resources are forgotten."""
        self._news = asyncio.Event()

    def touch_task(self, task_id: str) -> None:
        """Record that a task changed, and so the reports about all Task resources that want it."""
        task = self._managers.tasks.get(task_id)
        for uid in (*task.wanted, *task.refused) if task else ():
            self._touch(("task", uid))

    def touch_dropped(self, uid: str) -> None:
        self._touch(("task", uid))

    def touch_peer(self, name: str) -> None:
        self._touch(("peer", name))

    def touch_statement(self) -> None:
        self._touch(("statement", ""))

    async def changes(self, *, boot: str, since: int, wait: float, numbers: bool = False) -> Changes:
        """All changes after version ``since`` of the process ``boot``. Waits up to ``wait`` seconds for a change.

        ``numbers``: let reports about tasks refer to nodes by number. Operators of this version want this.
        """
        full = boot != self._boot or not self._forgotten <= since <= self._version
        if full:
            since = 0
        elif since == self._version:
            try:
                async with asyncio.timeout(wait):
                    await self._news.wait()
                    await asyncio.sleep(_COALESCE)
            except TimeoutError:
                pass
            if since < self._forgotten:  # during the wait, a change after ``since`` was forgotten
                full, since = True, 0
        return await self._since(since, full=full, table=self._managers.tasks.table if numbers else None)

    def release(self) -> None:
        self._news.set()
        self._news.clear()  # each waiter was woken up, and does not look at the event again

    def task(self, uid: str, table: NodeTable | None = None) -> TaskReport | None:
        """The report about the Task resource with this UID. ``None``: the supernode does not have it.

        The report refers to nodes by their numbers in ``table``. Without ``table``, or if the table lacks a node, it
        refers to nodes by name.
        """
        task = self._managers.tasks.of(uid)
        if task is None:
            return None
        wanted, copy = task.wanted.get(uid), task.copy
        if wanted is None:
            return _refused(task, task.refused[uid])
        ready, failures = self._delivered(task, wanted)
        if table is not None and any(table.number(name) is None for name in ready):
            table = None
        done = {*ready, *(failure.peer for failure in failures)}
        active = [name for name in wanted.peers if name not in done and self._is_connected(name)]
        swarm = self._managers.progress.tasks.get(task.id)
        return TaskReport(
            uid=uid,
            task_id=task.id,
            attempt=wanted.attempt,
            cdn_status=copy.status,
            length=copy.length,
            digest=copy.digest,
            piece_size=copy.piece_size,
            pieces_total=copy.total,
            pieces_cached=copy.cached.bit_count(),
            origin_bytes=copy.origin_bytes,
            supernode_bytes=swarm.supernode_bytes if swarm else 0,
            peer_bytes=swarm.peer_bytes if swarm else 0,
            failure=copy.failure,
            ready_peers=tuple(ready) if table is None else (),
            active_peers=tuple(active) if table is None else (),
            ready=ranges.render(table.mask(frozenset(ready))) if table is not None else "",
            active=len(active) if table is not None else None,
            failures=tuple(failures[:MAX_FAILURES]),
            failed_peers=len(failures),
        )

    def peer(self, name: str) -> PeerReport:
        peer = self._managers.peers.get(name)
        if peer is None:
            return PeerReport(name=name, connected=False)
        service = self._managers.progress.service[name]
        return PeerReport(
            name=name,
            connected=peer.connected,
            address=peer.address,
            port=peer.port,
            zone=peer.zone,
            version=peer.version,
            cache_bytes=peer.cache_bytes,
            tasks=len(self._managers.progress.tasks_of(name)),
            uploads=peer.uploads,
            succeeded=service.succeeded,
            failed=service.failed,
            pulls=dict(peer.pulls),
            runtime=peer.runtime,
            clock_ahead=None if peer.ahead_seconds is None else round(peer.ahead_seconds),
        )

    async def _since(self, since: int, *, full: bool, table: NodeTable | None) -> Changes:
        tasks: list[TaskReport] = []
        gone, peers, version = [], [], self._version
        for number, (kind, key) in enumerate(self._touched_after(since)):
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)  # ten thousand reports must not delay the peers
            if kind == "task":
                report = self.task(key, table)
                if report is not None:
                    tasks.append(report)
                elif not full:
                    gone.append(key)
            elif kind == "peer":
                peers.append(self.peer(key))
        return Changes(
            boot=self._boot,
            version=version,
            revision=self._managers.tasks.revision,
            full=full,
            tasks=tuple(tasks),
            gone=tuple(gone),
            peers=tuple(peers),
            nodes=table.names if table is not None and tasks else (),
            epoch=self._fence.epoch,
            numbers=True,
            credentials=True,
        )

    def _touched_after(self, since: int) -> list[tuple[str, str]]:
        """The objects that changed after a version, the newest change first. Later changes are in the next answer."""
        found = []
        for key, version in reversed(self._touched.items()):
            if version <= since:
                break
            found.append(key)
        return found

    def _delivered(self, task: Task, wanted: WantedTask) -> tuple[list[str], list[Failure]]:
        """The peers that have published the file at the wanted path, and the failures of other peers."""
        ready, failures = [], []
        for name in wanted.peers:
            state = self._managers.dfget_tasks.delivery(name, task.id, wanted.uid)
            if state is None or state.path != wanted.path:
                continue
            if state.status is DeliveryStatus.PUBLISHED:
                ready.append(name)
            elif state.status is DeliveryStatus.FAILED:
                failures.append(Failure(reason=state.reason, message=state.message, peer=name))
        return ready, failures

    def _is_connected(self, name: str) -> bool:
        peer = self._managers.peers.get(name)
        return peer is not None and peer.connected

    def _touch(self, key: tuple[str, str]) -> None:
        self._version += 1
        self._touched[key] = self._version
        self._touched.move_to_end(key)
        if len(self._touched) > self._most:
            self._forget()
        self.release()

    def _forget(self) -> None:
        dropped = [key for key in self._touched if key[0] == "task" and self._managers.tasks.of(key[1]) is None]
        for key in dropped[:-_KEPT]:
            self._forgotten = self._touched.pop(key)
        self._most = len(self._touched) + _KEPT
