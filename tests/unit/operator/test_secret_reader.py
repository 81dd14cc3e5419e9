"""When Secrets are read again."""

from pantala_operator.events import OperatorEvents, SecretRead
from pantala_operator.resources.api import Secret
from pantala_operator.watch.observation import Observation
from pantala_operator.watch.secrets import SecretReader
from tests.support.cluster import MemoryClock, MemoryCluster

KEY = ("ns", "s")


class Counting(MemoryCluster):
    """Remembers when it was asked."""

    def __init__(self, clock: MemoryClock) -> None:
        super().__init__()
        self.clock = clock
        self.asked: list[float] = []

    async def get_secret(self, namespace: str, name: str) -> Secret:
        self.asked.append(self.clock.monotonic())
        return await super().get_secret(namespace, name)


async def test_a_missing_secret_is_read_again_soon_and_then_less_often_and_a_valid_one_rarely() -> None:
    clock, known, events, changed = MemoryClock(), Observation(), OperatorEvents(), list[SecretRead]()
    cluster = Counting(clock)
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
