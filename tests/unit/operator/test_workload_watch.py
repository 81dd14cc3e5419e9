"""How often the operator lists what ImagePrefetches follow."""

import msgspec
import pytest

from pantala_operator.events import OperatorEvents
from pantala_operator.plan.targets import Pod
from pantala_operator.resources.prefetch import ImagePrefetch
from pantala_operator.watch.workloads import WorkloadLists, WorkloadWatch
from tests.support.cluster import MemoryClock, MemoryCluster


class _Stage(MemoryCluster):
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
    assert count == await _Stage(seconds).run(within)


async def test_what_no_image_prefetch_follows_is_not_listed() -> None:
    stage = _Stage(0.0)
    assert 1 == await stage.run(1)
    assert stage.known.are_read(stage.follower)
    stage.prefetches.clear()
    assert 1 == await stage.run(60)
    assert not stage.known.are_read(stage.follower)
