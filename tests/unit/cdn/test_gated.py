"""Places for the reading of origins, some of which never answer."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pantala_process.fair import Claim
from pantala_supernode import errors
from pantala_supernode.origin.body import ChunkBody, Layout
from pantala_supernode.origin.gated import GatedReader, Patience
from pantala_supernode.origin.limits import Gate
from pantala_supernode.origin.source import Answer, Resume
from pantala_supernode.tasks.copy import FileSource
from pantala_supernode.tasks.shares import Shares
from tests.support.source import Content, FakeReader

pytestmark = pytest.mark.virtual_time


class Origins:
    """Answers requests for ``/slow`` only once :attr:`awake` is set. Others are answered at once."""

    def __init__(self) -> None:
        self.awake = asyncio.Event()
        self.asked = self.inside = self.most = 0
        self._reader = FakeReader(Content(b"x" * 10))

    @asynccontextmanager
    async def open(self, source: FileSource, resume: Resume | None = None) -> AsyncIterator[Answer]:
        self.asked += 1
        if source.url.endswith("/slow"):
            await self.awake.wait()
        async with self._reader.open(source, resume) as answer:
            yield answer


async def read(reader: GatedReader, origins: Origins, path: str, priority: int = 0) -> None:
    async with reader.open(FileSource(f"http://origin.example/{path}", priority=priority)):
        origins.inside += 1
        origins.most = max(origins.most, origins.inside)
        await asyncio.sleep(0.01)
        origins.inside -= 1


async def test_silent_origins_do_not_keep_the_places() -> None:
    origins, gate = Origins(), Gate(2)
    reader = GatedReader(origins, gate, Patience(silent=0.05))
    slow = [asyncio.create_task(read(reader, origins, "slow")) for _ in range(20)]
    await asyncio.sleep(0.01)
    async with asyncio.timeout(5):
        await read(reader, origins, "file")
        origins.awake.set()
        await asyncio.gather(*slow)
    assert (21, 2, 0) == (origins.asked, origins.most, gate.queue)


async def test_a_silent_origin_keeps_its_place_while_no_file_waits() -> None:
    origins, gate = Origins(), Gate(1)
    reader = GatedReader(origins, gate, Patience(silent=0.01))
    slow = asyncio.create_task(read(reader, origins, "slow"))
    await asyncio.sleep(0.05)
    assert not gate.spare
    origins.awake.set()
    await slow
    assert gate.spare


async def test_too_many_silent_origins_end_the_oldest_request() -> None:
    origins, gate = Origins(), Gate(1)
    reader = GatedReader(origins, gate, Patience(silent=0.05, most_silent=2))
    slow = [asyncio.create_task(read(reader, origins, "slow")) for _ in range(3)]
    await asyncio.sleep(0.01)
    async with asyncio.timeout(5):
        await read(reader, origins, "file")
        with pytest.raises(errors.SourceTimeoutError, match="other files waited"):
            await slow[0]
        origins.awake.set()
        await asyncio.gather(*slow[1:])
    assert gate.spare


async def test_an_answer_that_was_late_comes_before_later_files() -> None:
    origins, gate, order = Origins(), Gate(1), []
    reader = GatedReader(origins, gate, Patience(silent=0.01))

    async def note(path: str) -> None:
        await read(reader, origins, path)
        order.append(path)

    slow = asyncio.create_task(note("slow"))
    await asyncio.sleep(0.05)
    files = [asyncio.create_task(note(name)) for name in ("a", "b", "c")]
    await asyncio.sleep(0)
    origins.awake.set()
    await asyncio.gather(slow, *files)
    assert (["a", "slow"], True) == (order[:2], gate.spare)


@pytest.mark.parametrize("wait", [0.0, 0.05, 0.2])
async def test_a_cancelled_request_leaves_no_place_behind(wait: float) -> None:
    origins, gate = Origins(), Gate(2)
    reader = GatedReader(origins, gate, Patience(silent=0.1))
    slow = [asyncio.create_task(read(reader, origins, "slow")) for _ in range(6)]
    await asyncio.sleep(wait)
    for each in slow:
        each.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    await asyncio.sleep(0)
    async with gate.place(Claim()):
        assert gate.spare
    assert 0 == gate.queue


class Bodies:
    """Answers at once with a body. Bodies of ``/slow`` bring one byte in a moment, until :attr:`awake` is set."""

    def __init__(self) -> None:
        self.awake = asyncio.Event()

    @asynccontextmanager
    async def open(self, source: FileSource, resume: Resume | None = None) -> AsyncIterator[Answer]:
        yield Answer(1000, 0, "", "", True, ChunkBody(self._chunks(slow=source.url.endswith("/slow"))))

    async def _chunks(self, *, slow: bool) -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b"x"
            await asyncio.sleep(0.005 if slow and not self.awake.is_set() else 0)


async def read_body(reader: GatedReader, path: str) -> int:
    async with reader.open(FileSource(f"http://origin.example/{path}")) as answer:
        return sum([len(block) async for block in answer.body.blocks(Layout(100))])


async def test_slow_bodies_do_not_keep_the_places_and_are_read_to_their_end() -> None:
    bodies, gate = Bodies(), Gate(2)
    reader = GatedReader(bodies, gate, Patience(slow=0.05, minimum=100))
    slow = [asyncio.create_task(read_body(reader, "slow")) for _ in range(12)]
    await asyncio.sleep(0.01)
    async with asyncio.timeout(4):
        assert await read_body(reader, "file") == 1000
        bodies.awake.set()
        assert [1000] * 12 == await asyncio.gather(*slow)
    async with gate.place(Claim()):
        assert gate.spare


async def test_too_many_slow_bodies_end_the_oldest_one() -> None:
    bodies, gate = Bodies(), Gate(1)
    reader = GatedReader(bodies, gate, Patience(slow=0.05, minimum=100, most_slow=2))
    slow = [asyncio.create_task(read_body(reader, "slow")) for _ in range(3)]
    await asyncio.sleep(0.01)
    async with asyncio.timeout(4):
        assert await read_body(reader, "file") == 1000
        with pytest.raises(errors.SourceTimeoutError, match="was slow"):
            await slow[0]
        bodies.awake.set()
        assert [1000] * 2 == await asyncio.gather(*slow[1:])
    assert gate.spare


async def test_a_fast_body_keeps_its_place() -> None:
    bodies, gate = Bodies(), Gate(1)
    reader = GatedReader(bodies, gate, Patience(slow=0.05, minimum=1))
    first = asyncio.create_task(read_body(reader, "slow"))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(read_body(reader, "file"))
    await asyncio.sleep(0.3)
    assert (1, False) == (gate.queue, second.done())
    bodies.awake.set()
    assert [1000, 1000] == await asyncio.gather(first, second)


def of(tenant: str, path: str = "file", priority: int = 0) -> FileSource:
    return FileSource(f"http://origin.example/{path}", priority=priority, tenants=frozenset({tenant}))


async def hold(reader: GatedReader, source: FileSource, until: asyncio.Event) -> None:
    async with reader.open(source):
        await until.wait()


async def test_h7_slow_files_of_one_tenant_do_not_delay_another_tenant() -> None:
    bodies, gate, end = Bodies(), Gate(4), asyncio.Event()
    reader = GatedReader(bodies, gate, Patience(slow=60.0))
    hostile = [asyncio.create_task(hold(reader, of("hostile"), end)) for _ in range(10)]
    await asyncio.sleep(0)
    async with asyncio.timeout(0.01), reader.open(of("honest")):
        assert 6 == gate.queue
    end.set()
    await asyncio.gather(*hostile)
    assert gate.spare


async def test_h7_silent_origins_of_one_tenant_do_not_delay_another_tenant() -> None:
    origins, gate = Origins(), Gate(4)
    reader = GatedReader(origins, gate, Patience(silent=60.0))
    hostile = [asyncio.create_task(hold(reader, of("hostile", "slow"), origins.awake)) for _ in range(10)]
    await asyncio.sleep(0)
    async with asyncio.timeout(0.01), reader.open(of("honest")):
        pass
    origins.awake.set()
    await asyncio.gather(*hostile)


async def test_h7_places_are_divided_by_shares_and_idle_places_are_free_for_all() -> None:
    gate, end = Gate(8), asyncio.Event()
    reader = GatedReader(Bodies(), gate, Patience(slow=60.0), Shares({"large": 3.0}))
    held = Counter[str]()

    async def work(tenant: str) -> None:
        async with gate.place(Shares({"large": 3.0}).claim(of(tenant))):
            held[tenant] += 1
            await end.wait()

    alone = [asyncio.create_task(hold(reader, of("small"), end)) for _ in range(8)]
    await asyncio.sleep(0)
    assert not gate.spare
    both = [asyncio.create_task(work(tenant)) for tenant in ("large", "small") for _ in range(20)]
    await asyncio.sleep(0.01)
    assert ({"large": 6}, 34) == (held, gate.queue)
    end.set()
    await asyncio.gather(*alone, *both)


async def test_h7_a_higher_priority_of_the_same_tenant_takes_the_place_of_a_silent_origin() -> None:
    origins, gate = Origins(), Gate(2)
    reader = GatedReader(origins, gate, Patience(silent=60.0))
    slow = [asyncio.create_task(hold(reader, of("team", "slow"), origins.awake)) for _ in range(5)]
    await asyncio.sleep(0)
    usual = asyncio.create_task(read(reader, origins, "usual"))
    async with asyncio.timeout(0.01), reader.open(of("team", priority=1)):
        pass
    origins.awake.set()
    await asyncio.gather(usual, *slow)


async def test_h7_many_lent_places_of_one_tenant_do_not_end_the_read_of_another() -> None:
    origins, gate = Origins(), Gate(2)
    reader = GatedReader(origins, gate, Patience(silent=0.01, most_silent=3))
    honest = asyncio.create_task(hold(reader, of("honest", "slow"), origins.awake))
    await asyncio.sleep(0)
    hostile = [asyncio.create_task(hold(reader, of("hostile", "slow"), origins.awake)) for _ in range(20)]
    await asyncio.sleep(1)
    origins.awake.set()
    await honest
    await asyncio.gather(*hostile, return_exceptions=True)


async def test_h7_slow_files_of_many_tenants_give_their_places_at_once() -> None:
    bodies, gate, end = Bodies(), Gate(4), asyncio.Event()
    reader = GatedReader(bodies, gate, Patience(slow=0.05))
    hostile = [asyncio.create_task(hold(reader, of(f"hostile-{number}"), end)) for number in range(4)]
    await asyncio.sleep(0.1)
    async with asyncio.timeout(0.01), reader.open(of("honest")):
        assert 0 == gate.queue
    end.set()
    await asyncio.gather(*hostile)
