"""The CDN's promises for any sequence of orders. faults/rows/origins.py tries any origin."""

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pantala_pieces.digests import PieceHash
from pantala_pieces.store import PieceStore
from pantala_protocol import task_id
from pantala_protocol.ranges import members
from pantala_protocol.statement import CDNStatus
from pantala_supernode.cdn.manager import CDNManager
from pantala_supernode.cdn.table import CopyTable
from pantala_supernode.origin.limits import Gate
from pantala_supernode.origin.source import Answer, Resume
from pantala_supernode.tasks.copy import FetchOrder, FileSource
from pantala_supernode.tasks.shares import Shares
from tests.support.cdn import origin_only, tools
from tests.support.eventually import eventually
from tests.support.examples import examples
from tests.support.source import Content, FakeReader, Step

PIECE = 128 * 1024
CONTENT = Content(random.Random(0).randbytes(4 * PIECE + 7), '"v1"')
PIECES = [PieceHash(CONTENT.data[n * PIECE : (n + 1) * PIECE]).digest() for n in range(5)]
TASKS = [task_id.compute("first"), task_id.compute("second")]

ACTS = st.lists(
    st.tuples(
        st.sampled_from(["trigger", "trigger", "retry", "pause", "retire", "delete", "refetch", "restart", "look"]),
        st.integers(0, 1),
        st.integers(0, 40),
    ),
    max_size=14,
)


class Watched(FakeReader):
    """Detects two concurrent reads of one URL."""

    def __init__(self, steps: list[Step]) -> None:
        super().__init__(CONTENT, steps)
        self.open_now: set[str] = set()
        self.wrong: list[str] = []

    @asynccontextmanager
    async def open(self, source: FileSource, resume: Resume | None = None) -> AsyncIterator[Answer]:
        if source.url in self.open_now:
            self.wrong.append("two read one origin at once")
        self.open_now.add(source.url)
        try:
            async with super().open(source, resume) as answer:
                yield answer
        finally:
            self.open_now.discard(source.url)


class Life:
    """A CDN that restarts on the same volume."""

    def __init__(self, directory: Path, source: Watched) -> None:
        self._directory = directory
        self._source = source
        self.wrong = source.wrong
        """The failed checks. Inside the CDN an assertion would be one more error that the CDN survives."""
        self._attempt = 0
        self._deletions: list[asyncio.Task[None]] = []
        self.cdn: CDNManager

    async def begin(self) -> None:
        self.store = PieceStore(self._directory, durable=False)
        self.cdn = CDNManager(
            CopyTable(self.store, self._look),
            self._source,
            tools(rng=random.SystemRandom(), sleep=lambda _: asyncio.sleep(0), gate=Gate(1), fresh_for=0.0),
            choose=origin_only,
            shares=Shares(),
        )
        await self.cdn.recover()

    async def end(self) -> None:
        await asyncio.gather(*self._deletions)
        await self.cdn.copies.close()

    def order(self, number: int) -> FetchOrder:
        return FetchOrder(TASKS[number], FileSource(f"http://origin/{number}", attempt=str(self._attempt)))

    async def act(self, what: str, number: int, pause: int) -> None:
        task = TASKS[number]
        match what:
            case "trigger":
                self.cdn.trigger(self.order(number))
            case "retry":
                self._attempt += 1
                self.cdn.trigger(self.order(number))
            case "pause":
                self.cdn.pause(task)
            case "retire":
                self.cdn.retire(task)
            case "delete":
                self._deletions.append(asyncio.create_task(self.cdn.copies.delete(task)))
            case "refetch":
                self.cdn.refetch(task, pause % 5)
            case "restart":
                await self.end()
                await self.begin()
            case _:
                self._look(task)
        for _ in range(pause):
            await asyncio.sleep(0)

    def _look(self, task: str) -> None:
        copy = self.cdn.status(task_id.parse(task))
        if any(PIECES[piece] != self.cdn.piece_digest(copy.task_id, piece) for piece in members(copy.cached)):
            self.wrong.append(f"a wrong piece is shown: {copy}")
        if copy.status is CDNStatus.SUCCESS and (copy.cached, copy.length) != (0b11111, len(CONTENT.data)):
            self.wrong.append(f"called whole, but it is not: {copy}")

    async def finish(self) -> None:
        """Every wanted copy becomes whole, and every unwanted one is removed."""
        for number in range(2):
            self._attempt += 1
            self.cdn.trigger(self.order(number))
        await eventually(lambda: all(self.cdn.status(task).digest for task in TASKS), every=0.001)
        for task in TASKS:
            file = self.store.get(task)
            assert file is not None
            assert CONTENT.data == file.path.read_bytes()
            await self.cdn.copies.delete(task)


@settings(max_examples=examples(120))
@given(acts=ACTS, cuts=st.lists(st.integers(0, 4 * PIECE), max_size=4))
def test_any_sequence_of_calls_ends_right(acts: list[tuple[str, int, int]], cuts: list[int]) -> None:
    async def live(directory: Path) -> None:
        life = Life(directory, Watched([Step(cut_after=cut) for cut in cuts]))
        await life.begin()
        for act in acts:
            await life.act(*act)
        await asyncio.gather(*life._deletions)
        await life.finish()
        await life.end()
        assert life.wrong == []
        assert [] == [path for path in directory.rglob("*") if path.is_file()]
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others, "somebody still works"

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(live(Path(directory)))
