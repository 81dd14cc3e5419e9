"""Finds the nodes that download a task much more slowly than the task's other nodes. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Final

from pantala_operator.plan.nodes import Trouble
from pantala_protocol.console.progress import WINDOW, TaskProgressView
from pantala_protocol.reasons import Reason
from pantala_protocol.rules import quantity

_SHARE: Final = 4
"""A node is slow below the median rate divided by this."""
_LASTS: Final = 5.0
"""Seconds that a node must be slow before it counts as slow."""
_FIRST_BYTE: Final = 10.0
"""Seconds until a node without any byte is compared with the other nodes."""
_LEAST: Final = 3
"""The least nodes to compare."""
_REMEMBERED: Final = 60.0
"""Seconds for which the rate of a finished node counts."""
_MOST_ENDED: Final = 20
"""The most finished nodes of one task whose rates count. Many small tasks finish on many nodes in a minute."""


@dataclass(slots=True)
class _Track:
    """One node's download of one task, as seen so far."""

    began: float
    before: int
    """The bytes that the node had before its newest bytes."""
    grew: float
    """When the node got its newest bytes."""
    seen: float
    bytes: int
    slow_since: float | None = None

    @property
    def mean(self) -> float:
        """Bytes per second until the node got its newest bytes."""
        return (self.bytes - self.before) / max(self.grew - self.began, 1.0)


class SlowNodes:
    """Compares the nodes of each task, in the messages of one supernode."""

    def __init__(self) -> None:
        self._tracks: dict[str, dict[str, _Track]] = {}

    def update(self, task: TaskProgressView, now: float) -> Iterator[tuple[str, Trouble]]:
        """Take the newest message about a task, and yield its slow nodes. ``now``: seconds since the epoch."""
        tracks = self._tracks.setdefault(task.task_id, {})
        for node in task.nodes:
            before = max(node.bytes - node.rate * WINDOW, 0)
            track = tracks.setdefault(node.node, _Track(now, before, now, now, node.bytes))
            track.grew = now if node.bytes > track.bytes else track.grew
            track.seen, track.bytes = now, node.bytes
        listed = {node.node: node for node in task.nodes}
        ended = sorted(tracks.keys() - listed.keys(), key=lambda name: -tracks[name].seen)
        for place, name in enumerate(ended):
            if place >= _MOST_ENDED or now - tracks[name].seen > _REMEMBERED:
                del tracks[name]
        rates = [float(node.rate) for node in task.nodes if node.bytes or node.rate]
        rates += [track.mean for name, track in tracks.items() if name not in listed and track.bytes]
        usual = median(rates) if len(rates) >= _LEAST else 0.0
        for name, node in listed.items():
            track = tracks[name]
            compared = node.bytes > 0 or node.rate > 0 or now - track.began >= _FIRST_BYTE
            if not compared or node.reason or node.rate * _SHARE >= usual:
                track.slow_since = None
                continue
            track.slow_since = now if track.slow_since is None else track.slow_since
            if now - track.slow_since >= _LASTS:
                yield name, _slow(node.rate, usual, track.slow_since)

    def forget_others(self, tasks: set[str]) -> None:
        """Forget all tasks but these."""
        for task_id in self._tracks.keys() - tasks:
            del self._tracks[task_id]


def _slow(rate: int, usual: float, since: float) -> Trouble:
    mine, others = quantity.render(rate), quantity.render(round(usual))
    what = f"The node gets {mine}B/s, less than a quarter of the usual {others}B/s of this download"
    return Trouble.of(Reason.NODE_SLOW, what, since)
