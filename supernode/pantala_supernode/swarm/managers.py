"""The supernode's managers, as Dragonfly names them; the sixth is :mod:`pantala_supernode.cdn.manager`."""

from __future__ import annotations

from dataclasses import dataclass

from pantala_supernode.swarm.download import DfgetTaskManager
from pantala_supernode.swarm.peer import PeerManager
from pantala_supernode.swarm.progress import ProgressManager
from pantala_supernode.swarm.scheduler import SchedulerManager
from pantala_supernode.tasks.manager import TaskManager


@dataclass(frozen=True, slots=True)
class Managers:
    """Five of the six: those that are pure."""

    tasks: TaskManager
    dfget_tasks: DfgetTaskManager
    peers: PeerManager
    progress: ProgressManager
    scheduler: SchedulerManager
