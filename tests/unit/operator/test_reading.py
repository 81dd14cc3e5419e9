"""When the operator reads objects, workloads and Secrets."""

import base64
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from pantala_operator.errors import ClusterUnavailableError
from pantala_operator.events import OperatorEvents, SecretRead
from pantala_operator.plan.secrets import pull_secret
from pantala_operator.plan.targets import Pod
from pantala_operator.ports import DataKind
from pantala_operator.resources.api import Metadata, Node, Secret
from pantala_operator.resources.prefetch import ImagePrefetch
from pantala_operator.resources.status import Obstacle
from pantala_operator.watch.observation import Collection, Observation
from pantala_operator.watch.secrets import SecretReader
from pantala_operator.watch.workloads import WorkloadLists, WorkloadWatch
from tests.support.cluster import MemoryClock, MemoryCluster

ALLOWED = {"pantala.dev/allow": "tasks"}


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

    async def read_data(self, kind: DataKind, namespace: str, name: str) -> Secret:
        self.asked.append(self.clock.monotonic())
        return await super().read_data(kind, namespace, name)


async def test_a_missing_secret_is_read_again_soon_and_then_less_often_and_a_valid_one_rarely() -> None:
    clock, known, events, changed = MemoryClock(), Observation(), OperatorEvents(), list[SecretRead]()
    cluster = CountingCluster(clock)
    events.subscribe(SecretRead, changed.append)
    reader = SecretReader(cluster, known, events, clock, "")
    known.pull_secrets = frozenset({KEY})

    async def run(seconds: int) -> list[float]:
        cluster.asked.clear()
        begun = clock.monotonic()
        for _ in range(2 * seconds):
            await reader.turn()
            clock.advance(0.5)
        return [at - begun for at in cluster.asked]

    assert [0, 1, 3, 7, 15, 25, 35] == await run(40)
    cluster.put(
        "secrets", {"metadata": {"name": "s", "namespace": "ns", "labels": ALLOWED}, "data": {"Authorization": "eA=="}}
    )
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


def test_a_full_list_finds_what_the_watch_missed_and_changes_meanwhile_count(nodes: Collection[Node]) -> None:
    """The watch may be ahead of the list, which shows some moment between its start and its end."""
    for name, version in (("missed", 1), ("gone", 1), ("deleted", 1), ("changed", 2)):
        nodes.update(node(name, version))
    before = nodes.begin_list()
    nodes.remove(node("deleted", 5))
    nodes.update(node("created", 6))
    nodes.update(node("changed", 7))
    nodes.end_list(before, [node("deleted", 1), node("changed", 2), node("missed", 3), node("new", 3)])
    assert {"created": "6", "changed": "7", "missed": "3", "new": "3"} == versions(nodes)
    assert nodes.listed


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


async def test_t2_missing_secrets_of_a_namespace_do_not_delay_another_one() -> None:
    clock, known = MemoryClock(), Observation()
    many, other = {("a", f"s{number:03}") for number in range(400)}, ("b", "s")
    cluster = CountingCluster(clock)
    known.pull_secrets = frozenset(many | {other})
    reader = SecretReader(cluster, known, OperatorEvents(), clock, "")
    for already in range(8):
        assert (already < 7) == await reader.turn()
        assert ((already + 1) * 50 + 1, True) == (len(known.secrets), other in known.secrets)
    assert 401 == len(cluster.asked)


async def test_h2_secrets_of_a_namespace_take_limited_memory_and_time() -> None:
    clock, known = MemoryClock(), Observation()
    cluster = CountingCluster(clock)
    keys = [("a", "s0"), ("a", "s1"), ("a", "s2"), ("b", "s")]
    hostile = base64.b64encode(b'{"auths": {"a.b": {"auth": null, "x": [%b{}]}}}' % (b"{}," * 330_000)).decode()

    def put(namespace: str, name: str, data: str) -> None:
        labels = {"metadata": {"name": name, "namespace": namespace, "labels": ALLOWED}}
        cluster.put("secrets", {**labels, "data": {".dockerconfigjson": data}})

    def excess() -> list[str]:
        found = {key: pull_secret(key[1], reading) for key, reading in known.secrets.items()}
        return [
            key[1] for key, each in found.items() if isinstance(each, Obstacle) and "more than 4MiB" in each.message
        ]

    for key in keys:
        put(*key, hostile)
    put("a", "s3", hostile)
    known.pull_secrets = frozenset({*keys, ("a", "s3")})
    reader = SecretReader(cluster, known, OperatorEvents(), clock, "")
    began = time.thread_time()
    await reader.turn()
    assert ["s3"] == excess()
    assert time.thread_time() - began < 0.5
    cluster.remove("secrets", "a/s0")
    clock.advance(181)
    await reader.turn()
    assert [] == excess()
    put("a", "s1", hostile * 4)
    clock.advance(181)
    await reader.turn()
    assert ["s1"] == excess()
    known.pull_secrets = frozenset()
    await reader.turn()
    assert {} == known.secrets


async def test_an_outage_is_one_line_in_the_log_and_not_one_for_each_secret() -> None:
    """The error names the Secret, so no two texts are equal."""

    class Down(MemoryCluster):
        async def read_data(self, kind: DataKind, namespace: str, name: str) -> Secret:
            if self.outage is not None:
                raise ClusterUnavailableError(f"no answer to get {kind}/{name}")
            return await super().read_data(kind, namespace, name)

    cluster, clock, known = Down(), MemoryClock(), Observation()
    cluster.outage = ClusterUnavailableError("no answer")
    known.pull_secrets = frozenset(("ns", f"s{number}") for number in range(20))
    reader = SecretReader(cluster, known, OperatorEvents(), clock, "")
    with capture_logs() as logged:
        for _ in range(10):
            await reader.turn()
            clock.advance(5)
        assert [True] == ["no answer to get secrets/s" in each["error"] for each in logged]
        cluster.outage = None
        await reader.turn()
        cluster.outage = ClusterUnavailableError("no answer")
        clock.advance(300)
        await reader.turn()
        assert 2 == len(logged)
