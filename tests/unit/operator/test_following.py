"""How often the operator looks at what ImagePrefetches follow."""

from __future__ import annotations

from pantala_operator.plan.prefetch.reach import Pod
from pantala_operator.watch.workloads import PODS, ListScope, WorkloadLists, WorkloadWatch
from tests.support.cluster import MemoryClock, MemoryCluster

_NEED: ListScope = (PODS, "ns")


class _SlowCluster(MemoryCluster):
    """Each list of pods takes a while."""

    def __init__(self, clock: MemoryClock, seconds: float) -> None:
        super().__init__()
        self.lists = 0
        self._clock = clock
        self._seconds = seconds

    async def list_pods(self, namespace: str) -> list[Pod]:
        self.lists += 1
        self._clock.advance(self._seconds)
        return await super().list_pods(namespace)


async def _lists(seconds: float, *, within: int) -> int:
    """How many lists that take ``seconds`` are made in so many seconds."""
    clock = MemoryClock()
    cluster = _SlowCluster(clock, seconds)
    following = WorkloadWatch(cluster, clock, WorkloadLists(), lambda: frozenset({_NEED}), lambda: None)
    began = clock.monotonic()
    while clock.monotonic() < began + within:
        await following.turn()
        clock.advance(0.5)
    return cluster.lists


async def test_few_pods_are_looked_at_often() -> None:
    assert 12 == await _lists(0.001, within=60)


async def test_many_pods_are_looked_at_as_rarely_as_it_takes_long() -> None:
    assert 6 == await _lists(0.05, within=60)
    assert 2 == await _lists(0.5, within=60)


async def test_however_long_it_takes_they_are_looked_at() -> None:
    assert 10 == await _lists(4.0, within=340)


async def test_what_nobody_follows_is_not_looked_at() -> None:
    clock, wanted = MemoryClock(), {_NEED}
    cluster = _SlowCluster(clock, 0.0)
    around = WorkloadLists()
    following = WorkloadWatch(cluster, clock, around, lambda: frozenset(wanted), lambda: None)
    await following.turn()
    assert around.has(_NEED)

    wanted.clear()
    clock.advance(60)
    await following.turn()

    assert 1 == cluster.lists
    assert not around.has(_NEED)
