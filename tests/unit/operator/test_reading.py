"""How often the operator reads Secrets again, and lists what ImagePrefetches follow."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_operator.events import OperatorEvents, SecretRead
from pantala_operator.plan.targets import Pod
from pantala_operator.resources.api import Metadata, Node, Secret
from pantala_operator.resources.prefetch import ImagePrefetch
from pantala_operator.watch.observation import Collection, Observation
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


def node(name: str, version: int, uid: str = "") -> Node:
    return Node(Metadata(name, uid=uid or f"uid-{name}", resource_version=str(version)))


@pytest.fixture
def nodes() -> Collection[Node]:
    return Collection()


def versions(collection: Collection[Node]) -> dict[str, str]:
    return {key: item.metadata.resource_version for key, item in collection.items.items()}


def test_a_deletion_does_not_remove_the_successor(nodes: Collection[Node]) -> None:
    nodes.update(node("a", 5, "new"))
    assert not nodes.remove(node("a", 4, "old"))
    assert {"a": "5"} == versions(nodes)


def test_a_full_list_finds_what_the_watch_missed(nodes: Collection[Node]) -> None:
    nodes.update(node("gone", 1))
    nodes.update(node("changed", 2))
    before = nodes.begin_list()
    nodes.end_list(before, [node("changed", 4), node("new", 3)])
    assert {"changed": "4", "new": "3"} == versions(nodes)
    assert nodes.listed


def test_changes_during_a_full_list_count(nodes: Collection[Node]) -> None:
    """The watch may be ahead of the list, which shows some moment between its start and its end."""
    nodes.update(node("deleted", 1))
    nodes.update(node("changed", 2))
    before = nodes.begin_list()
    nodes.remove(node("deleted", 5))
    nodes.update(node("created", 6))
    nodes.update(node("changed", 7))
    nodes.end_list(before, [node("deleted", 1), node("changed", 2)])
    assert {"created": "6", "changed": "7"} == versions(nodes)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 9), st.booleans()), max_size=12))
def test_the_newest_reading_wins_in_any_order(events: list[tuple[str, int, bool]]) -> None:
    """A deletion is final, because a UID is never used again."""
    nodes: Collection[Node] = Collection()
    for name, version, gone in events:
        before = versions(nodes)
        changed = (nodes.remove if gone else nodes.update)(node(name, version))
        assert changed == (before != versions(nodes))
    dead = {name for name, _, gone in events if gone}
    expected = {
        name: str(max(version for other, version, _ in events if other == name))
        for name, _, _ in events
        if name not in dead
    }
    assert expected == versions(nodes)
