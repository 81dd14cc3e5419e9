"""How often the operator reads Secrets again, and lists what ImagePrefetches follow."""

import msgspec
import pytest

from pantala_operator.events import OperatorEvents, SecretRead
from pantala_operator.plan.targets import Pod
from pantala_operator.resources.api import Secret
from pantala_operator.resources.prefetch import ImagePrefetch
from pantala_operator.watch.observation import Observation
from pantala_operator.watch.secrets import SecretReader
from pantala_operator.watch.workloads import WorkloadLists, WorkloadWatch
from tests.support.cluster import MemoryClock, MemoryCluster


class PodLists(MemoryCluster):
    """Each list of pods takes ``seconds``. One ImagePrefetch follows them."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.count = 0
        self.clock = MemoryClock()
        self.known = WorkloadLists("")
        body = {"metadata": {"name": "p", "namespace": "ns"}, "spec": {"target": {"podSelector": {}}}}
        self.follower = msgspec.convert(body, ImagePrefetch)
        self.prefetches = {"ns/p": self.follower}
        self.reader = WorkloadWatch(self, self.clock, self.known, self.prefetches, OperatorEvents())
        self._seconds = seconds

    async def list_pods(self, namespace: str) -> list[Pod]:
        self.count += 1
        self.clock.advance(self._seconds)
        return await super().list_pods(namespace)

    async def run(self, seconds: int) -> int:
        """How many lists are made in so many seconds."""
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            await self.reader.turn()
            self.clock.advance(0.5)
        return self.count


@pytest.mark.parametrize(
    ("seconds", "within", "count"),
    [
        pytest.param(0.001, 60, 12, id="few pods often"),
        pytest.param(0.05, 60, 6, id="more pods less often"),
        pytest.param(0.5, 60, 2, id="many pods rarely"),
        pytest.param(4.0, 340, 10, id="but never less often than that"),
    ],
)
async def test_a_list_is_made_as_rarely_as_it_takes_long(seconds: float, within: int, count: int) -> None:
    assert count == await PodLists(seconds).run(within)


async def test_pods_that_no_image_prefetch_follows_are_not_listed() -> None:
    stage = PodLists(0.0)
    assert 1 == await stage.run(1)
    assert stage.known.are_read(stage.follower)
    stage.prefetches.clear()
    assert 1 == await stage.run(60)
    assert not stage.known.are_read(stage.follower)


KEY = ("ns", "s")


class CountingCluster(MemoryCluster):
    """Remembers when each Secret was read."""

    def __init__(self, clock: MemoryClock) -> None:
        super().__init__()
        self.clock = clock
        self.asked: list[float] = []

    async def get_secret(self, namespace: str, name: str) -> Secret:
        self.asked.append(self.clock.monotonic())
        return await super().get_secret(namespace, name)


async def test_a_missing_secret_is_read_again_soon_and_then_less_often_and_a_valid_one_rarely() -> None:
    clock, known, events, changed = MemoryClock(), Observation(), OperatorEvents(), list[SecretRead]()
    cluster = CountingCluster(clock)
    events.subscribe(SecretRead, changed.append)
    reader = SecretReader(cluster, known, events, clock)
    known.pull_secrets = frozenset({KEY})

    async def run(seconds: int) -> list[float]:
        cluster.asked.clear()
        begun = clock.monotonic()
        for _ in range(2 * seconds):
            await reader.turn()
            clock.advance(0.5)
        return [at - begun for at in cluster.asked]

    assert [0, 1, 3, 7, 15, 25, 35] == await run(40)
    cluster.put("secrets", {"metadata": {"name": "s", "namespace": "ns"}, "data": {"Authorization": "eA=="}})
    assert [5, 185] == await run(200)
    cluster.remove("secrets", "ns/s")
    assert [165, 166, 168] == await run(170)
    assert [SecretRead(KEY)] * 3 == changed
