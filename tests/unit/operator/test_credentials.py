"""When Secrets are read again."""

from __future__ import annotations

from datetime import UTC, datetime

from pantala_operator.resources.api import Secret
from pantala_operator.watch.observation import Observation, SecretKey
from pantala_operator.watch.secrets import SecretReader
from tests.support.cluster import MemoryCluster

KEY = ("ns", "s")


class Clock:
    """Goes on when told."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time, UTC)

    def monotonic(self) -> float:
        return self.time


class Counting(MemoryCluster):
    """Remembers when it was asked."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.asked: list[float] = []

    async def get_secret(self, namespace: str, name: str) -> Secret:
        self.asked.append(self.clock.time)
        return await super().get_secret(namespace, name)


async def test_a_missing_one_is_read_again_soon_then_ever_more_rarely_and_one_that_is_there_seldom() -> None:
    clock, known, changed = Clock(), Observation(), list[SecretKey]()
    cluster = Counting(clock)
    credentials = SecretReader(cluster, known, clock, changed.append)
    known.pull_secrets = frozenset({KEY})

    async def run(seconds: int) -> list[float]:
        cluster.asked.clear()
        begun = clock.time
        for _ in range(2 * seconds):
            await credentials.turn()
            clock.time += 0.5
        return [at - begun for at in cluster.asked]

    assert [0, 1, 3, 7, 15, 25, 35] == await run(40)
    cluster.put("secrets", {"metadata": {"name": "s", "namespace": "ns"}, "data": {"Authorization": "eA=="}})
    assert [5, 185] == await run(200)
    cluster.remove("secrets", "ns/s")
    assert [165, 166, 168] == await run(170)
    assert [KEY] * 3 == changed
