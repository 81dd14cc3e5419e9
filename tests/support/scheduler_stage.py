"""A scheduler with peers that a test chooses."""

import random
from typing import Any

from pantala_protocol.statement import CDNStatus
from pantala_supernode.swarm.limits import SchedulingPolicy
from pantala_supernode.swarm.peer import SwarmPeer
from pantala_supernode.swarm.pool import Pool
from pantala_supernode.swarm.progress import ProgressManager
from pantala_supernode.swarm.scheduler import PieceChoice, SchedulerManager
from pantala_supernode.tasks.copy import Copy
from tests.unit.supernode.conftest import ID

POLICY = SchedulingPolicy(window=4, peer_uploads=2, supernode_uploads=3, sample=4)
LOCAL = "the supernode's node"
ALL = 0b1111_1111


class SchedulerStage:
    """A scheduler over one task of which the supernode has ``pieces``."""

    def __init__(self, pieces: int = 8) -> None:
        self.progress = ProgressManager(LOCAL)
        self.there: dict[str, SwarmPeer] = {}
        self.scheduler = SchedulerManager(self.progress, policy=POLICY, chance=random.Random(1), lookup=self.there.get)
        self.swarm = self.progress.init_task("t")
        self.shows((1 << pieces) - 1)

    def shows(self, cached: int, *, arriving: bool = False) -> None:
        self.swarm.copy = Copy(ID, CDNStatus.RUNNING if arriving else CDNStatus.SUCCESS, cached=cached)

    def joins(self, *names: str, have: int = 0, zone: str = "", **more: Any) -> None:
        for name in names:
            self.progress.init_progress("t", name, have, zone=zone)
            self.there[name] = SwarmPeer(name, "10.0.0.1", 65002, b"key", zone, **more)

    def asks(self, name: str, room: int = 4, now: float = 0.0, **more: Any) -> list[PieceChoice]:
        return self.scheduler.schedule("t", name, room=room, now=now, **more)

    def providers(self, name: str, **more: Any) -> list[str]:
        return [choice.provider for choice in self.asks(name, **more)]

    def takes(self, name: str, *choices: PieceChoice) -> None:
        for choice in choices:
            self.progress.succeed("t", name, 1 << choice.piece, lambda _piece: 1, now=0.0)

    def fails(self, name: str, choice: PieceChoice, *, corrupt: bool = False, now: float = 0.0) -> None:
        self.progress.fail("t", name, choice.piece, blame=True)
        self.scheduler.failed(name, choice.provider, corrupt=corrupt, now=now)

    def line(self, *names: str, provider: str | None = None) -> list[str]:
        """Which of the waiting peers are next in line."""
        waiting = Pool()
        for name in names:
            waiting.add(name)
        return self.scheduler.next_in_line("t", waiting, now=0.0, provider=provider)
