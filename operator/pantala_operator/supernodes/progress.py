"""The supernodes' messages about unfinished downloads, and which downloads are in trouble. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Final

from pantala_operator.plan.nodes import SourceBytes, TaskDownloads, Trouble
from pantala_operator.supernodes.slowness import SlowNodes
from pantala_protocol import reasons
from pantala_protocol.console.progress import NodeDownload, Progress, TaskProgressView

_HOLD: Final = 5.0
"""Seconds for which a trouble stays at least, so that a status does not change back and forth."""
_SOURCE: Final = ""
"""Stands for the supernode in a key where other keys name a node."""

_MOST_MOVED: Final = 20_000
"""The tasks whose bytes are remembered after their end."""

TroubleKey = tuple[str, str]
"""A task's ID and a node's name."""


class HeldTroubles:
    """Keeps each trouble for a while, and its first message as long as its reason is the same."""

    def __init__(self) -> None:
        self._kept: dict[TroubleKey, tuple[Trouble, float]] = {}

    def update(self, found: Mapping[TroubleKey, Trouble], now: float) -> set[TroubleKey]:
        """Take all present troubles. Returns the keys whose trouble began, ended or has another reason."""
        changed = set()
        for key, trouble in found.items():
            kept = self._kept.get(key)
            if kept is None or (kept[0].reason != trouble.reason and now - kept[1] >= _HOLD):
                self._kept[key] = trouble, now
                changed.add(key)
        for key in [key for key, (_, seen) in self._kept.items() if key not in found and now - seen >= _HOLD]:
            del self._kept[key]
            changed.add(key)
        return changed

    def items(self) -> Iterator[tuple[TroubleKey, Trouble]]:
        for key, (trouble, _) in self._kept.items():
            yield key, trouble


class ProgressStore:
    """The newest progress of each supernode, and the troubles of downloads and peers."""

    def __init__(self) -> None:
        self.messages: dict[str, Progress] = {}
        """The newest message of each supernode that sends messages about progress."""
        self._tasks: dict[str, dict[str, TaskProgressView]] = {}
        self._slow: dict[str, SlowNodes] = {}
        self._held: dict[str, HeldTroubles] = {}
        self._silence = HeldTroubles()
        self._troubles: dict[str, dict[str, Trouble]] = {}
        self._silent: dict[str, Trouble] = {}
        self._silent_at: dict[str, frozenset[str]] = {}
        """The supernodes at which each silent peer is silent. Empty: all supernodes."""
        self.known = False
        """True when a supernode has answered and the operator has asked its silent peers. Before, no reason counts as
        ended."""
        self._moved: dict[str, dict[str, SourceBytes]] = {}
        """The bytes of each task by supernode. The tasks that moved last are at the end."""

    @property
    def silent(self) -> Mapping[str, Trouble]:
        """The silent peers, each with the reason."""
        return self._silent

    @property
    def troubled(self) -> Set[str]:
        """The IDs of the tasks that have troubles."""
        return self._troubles.keys()

    @property
    def quiet(self) -> dict[str, float]:
        """The peers whose next exchange with a supernode is overdue, and since when."""
        found: dict[str, float] = {}
        for message in self.messages.values():
            for peer in message.silent:
                found[peer.name] = min(peer.since, found.get(peer.name, peer.since))
        return found

    @property
    def moving(self) -> Set[str]:
        """The IDs of the tasks with a download that is unfinished or still shows a rate."""
        return {task_id for tasks in self._tasks.values() for task_id in tasks}

    def on_progress(self, supernode: str, progress: Progress | None, now: float) -> set[str]:
        """Store a message. Returns the IDs of the tasks whose troubles changed. ``now``: seconds since the epoch.

        ``None``: the supernode does not answer, or does not send such messages.
        """
        if progress is None:
            self.messages.pop(supernode, None)
        else:
            self.messages[supernode] = progress
        tasks = {each.task_id: each for each in progress.tasks} if progress is not None else {}
        self._tasks[supernode] = tasks
        self._note_moved(supernode, tasks)
        slow = self._slow.setdefault(supernode, SlowNodes())
        slow.forget_others(set(tasks))
        found = {key: trouble for each in tasks.values() for key, trouble in _troubles(each, slow, now)}
        changed = self._held.setdefault(supernode, HeldTroubles()).update(found, now)
        if changed:
            self._gather()
        return {task_id for task_id, _ in changed}

    def on_silence(self, found: Mapping[str, Trouble], now: float) -> set[str]:
        """Store which peers are silent, and why. Returns the peers for which this changed."""
        self.known |= bool(self.messages)
        changed = self._silence.update({("", name): trouble for name, trouble in found.items()}, now)
        if changed:
            self._silent = {name: trouble for (_, name), trouble in self._silence.items()}
        lists = [(supernode, {peer.name for peer in each.silent}) for supernode, each in self.messages.items()]
        former, self._silent_at = self._silent_at, {}
        for name in self._silent:
            listed = frozenset(supernode for supernode, names in lists if name in names)
            self._silent_at[name] = listed or former.get(name, listed)
        return {name for _, name in changed} | {
            name for name in former.keys() & self._silent.keys() if former[name] != self._silent_at[name]
        }

    def forget(self, supernode: str) -> None:
        """Drop all data about a supernode that was removed."""
        for kept in (self.messages, self._tasks, self._slow, self._held):
            kept.pop(supernode, None)
        self._gather()

    def downloads(self, task_id: str) -> TaskDownloads:
        """What is known about one task."""
        found = {supernode: tasks[task_id] for supernode, tasks in self._tasks.items() if task_id in tasks}
        views = found.values()
        nodes: dict[str, NodeDownload] = {}
        for view in views:
            for node in view.nodes:
                known = nodes.get(node.node)
                nodes[node.node] = node if known is None or node.bytes >= known.bytes else known
        troubles = dict(self._troubles.get(task_id, ()))
        source = troubles.pop(_SOURCE, None)
        silent: Mapping[str, Trouble] = self._silent
        # A peer that is silent at one supernode may still get this file from another supernode.
        served = {name for name in silent.keys() & nodes.keys() if nodes[name].rate}
        if found and len(self.messages) > 1:
            served |= {name for name, at in self._silent_at.items() if at and not at & found.keys()}
        if served:
            silent = {name: each for name, each in silent.items() if name not in served}
        origin_rate, origin_pace = (sum(view.origin_rate for view in views), sum(view.origin_pace for view in views))
        return TaskDownloads(nodes, troubles, silent, source, origin_rate, origin_pace)

    def moved(self, task_id: str) -> SourceBytes | None:
        """The bytes of one task so far, also after its end.

        ``None``: no supernode has reported them since the start.
        """
        known = self._moved.get(task_id)
        if known is None:
            return None
        origin, supernode, peers = zip(*known.values(), strict=True)
        return SourceBytes(max(origin), sum(supernode), sum(peers))

    def moved_of(self, task_ids: Iterable[str]) -> SourceBytes | None:
        """The known bytes of all these tasks, each task once. ``None``: the bytes of no task are known."""
        known = [moved for task_id in set(task_ids) if (moved := self.moved(task_id)) is not None]
        return SourceBytes.total(known) if known else None

    def _note_moved(self, supernode: str, tasks: Mapping[str, TaskProgressView]) -> None:
        for each in tasks.values():
            known = self._moved.pop(each.task_id, {})
            known[supernode] = SourceBytes(each.origin_bytes, each.supernode_bytes, each.peer_bytes)
            self._moved[each.task_id] = known
        while len(self._moved) > _MOST_MOVED:
            del self._moved[next(iter(self._moved))]

    def troubles_of(self, tasks: Iterable[str]) -> dict[str, Trouble]:
        """Why nodes get too few bytes of any of these tasks, by node. A slow source concerns all nodes that wait."""
        found: dict[str, Trouble] = {}
        for task_id in self._troubles.keys() & set(tasks):
            known = self.downloads(task_id)
            waiting = dict.fromkeys(known.nodes, known.source) if known.source is not None else {}
            found = {**waiting, **found, **known.troubles}
        return {**found, **self._silent}

    def _gather(self) -> None:
        self._troubles = {}
        for held in self._held.values():
            for (task_id, node), trouble in held.items():
                self._troubles.setdefault(task_id, {})[node] = trouble


def _troubles(task: TaskProgressView, slow: SlowNodes, now: float) -> Iterator[tuple[TroubleKey, Trouble]]:
    for name, trouble in slow.update(task, now):
        yield (task.task_id, name), trouble
    if task.reason:
        yield (task.task_id, _SOURCE), _reported(task.reason, task.message, task.since)
    for node in task.nodes:
        if node.reason:
            yield (task.task_id, node.node), _reported(node.reason, node.message, node.since)


def _reported(reason: str, message: str, since: float) -> Trouble:
    return Trouble(reason, *reasons.split(message or reason, reason), since)
