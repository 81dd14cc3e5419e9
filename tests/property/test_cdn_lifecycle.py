"""The CDN's promises for any faults and orders."""

import asyncio
import hashlib
import random
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pantala_pieces.digests import PieceHash
from pantala_pieces.store import PieceStore
from pantala_protocol import task_id
from pantala_protocol.ranges import members
from pantala_protocol.statement import CDNStatus
from pantala_supernode import errors
from pantala_supernode.cdn.attempts import MAX_RESTARTS
from pantala_supernode.cdn.manager import CDNManager
from pantala_supernode.cdn.table import CopyTable
from pantala_supernode.origin.limits import Gate
from pantala_supernode.origin.source import Answer, Resume
from pantala_supernode.tasks.copy import Copy, FetchOrder, FileSource
from pantala_supernode.tasks.shares import Shares
from tests.support.cdn import TASK, CDNBench, origin_only, tools
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


LENGTHS = st.sampled_from([3 * PIECE + 7, 4 * PIECE, 5 * PIECE - 1, PIECE + 1, PIECE, PIECE - 1, 1, 0])
CUTS = st.one_of(st.integers(PIECE, 4 * PIECE), st.integers(0, PIECE), st.none())
ERRORS = st.sampled_from(
    [errors.SourceRefusedError, errors.SourceTimeoutError, errors.SourceAnswerError, errors.SourceProtocolError]
)


def content(length: int, seed: int, *, named: bool) -> Content:
    return Content(random.Random(seed).randbytes(length), f'"{seed}"' if named else "")


@st.composite
def programs(draw: st.DrawFn) -> tuple[Content, list[Step], list[Content]]:
    """An origin's content, its answers, and all its contents."""
    named = draw(st.booleans())
    contents = [content(draw(LENGTHS), 0, named=named)]
    steps = []
    for number in range(draw(st.integers(0, 5))):
        replaced = None
        if draw(st.integers(0, 3)) == 0:
            replaced = content(draw(LENGTHS), number + 1, named=named)
            contents.append(replaced)
        announced = draw(st.sampled_from([0, 0, 0, 5, -1]))
        steps.append(
            Step(
                error=draw(ERRORS)("an error of the origin") if draw(st.integers(0, 4)) == 0 else None,
                # A body that is cut where its announced end is looks like a shorter file.
                cut_after=draw(CUTS) if announced >= 0 else None,
                ranges=draw(st.booleans()),
                length_known=draw(st.integers(0, 3)) > 0,
                announced=announced,
                replace=replaced,
            )
        )
    return contents[0], steps, contents


class Witness(CDNBench):
    """Looks at each copy that is shown, as a peer does, and compares it with the contents of the origin.

    ``pinned``: each answer names its content. If not, and a digest is expected, answers are joined and the digest
    decides at the end: only the outcome is promised, not each piece.
    """

    def __init__(self, directory: Path, source: FakeReader, contents: list[Content], *, pinned: bool) -> None:
        super().__init__(directory, source, sleep=lambda _: asyncio.sleep(0))
        self._contents = contents
        self._pinned = pinned
        self._shown: dict[str, int] = {}
        self.wrong: AssertionError | None = None
        """The first failed check. Inside the CDN it would be one more error that the CDN survives."""

    def _on_change(self, task: str) -> None:
        super()._on_change(task)
        try:
            self._check(self.seen[-1])
        except AssertionError as error:
            self.wrong = self.wrong or error

    def _check(self, copy: Copy) -> None:
        if copy.status is CDNStatus.SUCCESS:
            assert copy.digest in {f"sha256:{hashlib.sha256(c.data).hexdigest()}" for c in self._contents}
        before = self._shown.get(copy.generation, 0)
        assert before & copy.cached == before, "a reported piece is missing in its generation"
        self._shown[copy.generation] = copy.cached
        digests = {number: self.cdn.piece_digest(TASK, number) for number in members(copy.cached)}
        assert not self._pinned or any(
            all(
                PieceHash(c.data[n * copy.piece_size : (n + 1) * copy.piece_size]).digest() == digest
                for n, digest in digests.items()
            )
            for c in self._contents
        ), "the pieces of one generation are not of one content"


async def run(directory: Path, source: FakeReader, contents: list[Content], order: FetchOrder) -> tuple[Copy, bytes]:
    pinned = not order.source.digest or all(content.validator for content in contents)
    async with Witness(directory, source, contents, pinned=pinned) as witness:
        witness.cdn.trigger(order)
        copy = await witness.until(lambda copy: copy.status is CDNStatus.SUCCESS or _is_final(copy) or witness.wrong)
        data = witness.data() if copy.total else b""
    if witness.wrong is not None:
        raise witness.wrong
    return copy, data


def _is_final(copy: Copy) -> bool:
    return copy.failure is not None and copy.failure.final


@settings(max_examples=examples(200), suppress_health_check=[HealthCheck.too_slow])
@given(program=programs(), digest=st.sampled_from(["", "sha256", "sha512"]))
def test_any_origin_gives_right_bytes_or_fails(program: tuple[Content, list[Step], list[Content]], digest: str) -> None:
    first, steps, contents = program
    expected = f"{digest}:{hashlib.new(digest, contents[-1].data).hexdigest()}" if digest else ""
    with tempfile.TemporaryDirectory() as directory:
        source = FakeReader(first, steps)
        order = FetchOrder(TASK, FileSource("http://origin/file", digest=expected))
        copy, data = asyncio.run(run(Path(directory), source, contents, order))
    if copy.status is CDNStatus.SUCCESS:
        assert data in [c.data for c in contents]
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == copy.digest
        assert not expected or data == contents[-1].data
    else:
        assert copy.failure is not None
        few_changes = len(contents) == 1 and sum(step.announced != 0 for step in steps) <= MAX_RESTARTS
        assert not few_changes, f"an origin with temporary faults is not abandoned: {copy.failure}"


@settings(max_examples=examples(60))
@given(length=LENGTHS, cuts=st.lists(st.integers(0, 4 * PIECE), max_size=5), named=st.booleans())
def test_with_ranges_each_byte_is_read_once_except_after_a_cut(length: int, cuts: list[int], *, named: bool) -> None:
    whole = content(length, 1, named=named)
    digest = f"sha256:{hashlib.sha256(whole.data).hexdigest()}"
    with tempfile.TemporaryDirectory() as directory:
        source = FakeReader(whole, [Step(cut_after=cut) for cut in cuts])
        order = FetchOrder(TASK, FileSource("http://origin/file", digest=digest))
        copy, _ = asyncio.run(run(Path(directory), source, [whole], order))
    assert copy.status is CDNStatus.SUCCESS
    assert copy.origin_bytes == source.sent
    assert length <= source.sent <= length + len(cuts) * PIECE
