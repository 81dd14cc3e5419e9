"""With any origin, the CDN reports right pieces and ends."""

import asyncio
import hashlib
import random
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pantala_pieces.store import PieceStore
from pantala_protocol import task_id
from pantala_protocol.ranges import members
from pantala_protocol.statement import CDNStatus
from pantala_supernode import errors
from pantala_supernode.cdn.attempts import MAX_RESTARTS
from pantala_supernode.cdn.manager import CDNManager
from pantala_supernode.cdn.table import CopyTable
from pantala_supernode.tasks.copy import Copy, FetchOrder, FileSource
from tests.support.examples import examples
from tests.support.source import Content, FakeReader, Step

PIECE = 128 * 1024
TASK = task_id.compute("test")
LENGTHS = st.sampled_from([3 * PIECE + 7, 4 * PIECE, 5 * PIECE - 1, PIECE + 1, PIECE, PIECE - 1, 1, 0])
CUTS = st.one_of(st.integers(PIECE, 4 * PIECE), st.integers(0, PIECE), st.none())
ERRORS = st.sampled_from(
    [errors.SourceRefusedError, errors.SourceTimeoutError, errors.SourceAnswerError, errors.SourceProtocolError]
)


def content(length: int, seed: int, *, named: bool) -> Content:
    return Content(random.Random(seed).randbytes(length), f'"{seed}"' if named else "")


@st.composite
def programs(draw: st.DrawFn) -> tuple[Content, list[Step], list[Content]]:
    """An origin's content, what it does, and all contents it ever has."""
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
                # Cut just where it announced its end, a body is a shorter file for all that anybody can tell.
                cut_after=draw(CUTS) if announced >= 0 else None,
                ranges=draw(st.booleans()),
                length_known=draw(st.integers(0, 3)) > 0,
                announced=announced,
                replace=replaced,
            )
        )
    return contents[0], steps, contents


class Witness:
    """Looks at each copy that is shown, as a peer does, and compares it with what the origin had.

    ``pinned``: each request can tell which content it is answered with. If it cannot, and a digest is expected, then
    requests are joined on trust and the digest decides at the end: only the outcome is promised, not each piece.
    """

    def __init__(self, contents: list[Content], *, pinned: bool) -> None:
        self._contents = contents
        self._pinned = pinned
        self.cdn: CDNManager
        self.shown: dict[str, int] = {}
        self.ended = asyncio.Event()
        self.wrong: AssertionError | None = None

    def look(self, task: str) -> None:
        copy = self.cdn.status(TASK)
        try:
            self._check(copy)
        except AssertionError as error:  # inside the CDN it would be one more error that it survives
            self.wrong = self.wrong or error
            self.ended.set()
        if copy.status is CDNStatus.SUCCESS or (copy.failure is not None and copy.failure.final):
            self.ended.set()

    def _check(self, copy: Copy) -> None:
        if copy.status is CDNStatus.SUCCESS:
            assert copy.digest in {f"sha256:{hashlib.sha256(c.data).hexdigest()}" for c in self._contents}
        before = self.shown.get(copy.generation, 0)
        assert before & copy.cached == before, "a piece that was shown is gone from its generation"
        self.shown[copy.generation] = copy.cached
        digests = {number: self.cdn.piece_digest(TASK, number) for number in members(copy.cached)}
        assert not self._pinned or any(
            all(
                hashlib.sha256(c.data[n * copy.piece_size : (n + 1) * copy.piece_size]).digest() == digest
                for n, digest in digests.items()
            )
            for c in self._contents
        ), "the pieces of one generation are not of one content"


async def no_sleep(_: float) -> None:
    await asyncio.sleep(0)


async def run(directory: Path, source: FakeReader, contents: list[Content], order: FetchOrder) -> tuple[Copy, bytes]:
    store = PieceStore(directory, durable=False)
    pinned = not order.source.digest or all(content.validator for content in contents)
    witness = Witness(contents, pinned=pinned)
    witness.cdn = CDNManager(CopyTable(store, witness.look), source, rng=random.Random(2), sleep=no_sleep)
    await witness.cdn.recover()
    witness.cdn.trigger(order)
    async with asyncio.timeout(30):
        await witness.ended.wait()
    copy = witness.cdn.status(TASK)
    file = store.get(TASK)
    data = file.path.read_bytes() if file is not None and copy.total else b""
    await witness.cdn.copies.close()
    if witness.wrong is not None:
        raise witness.wrong
    return copy, data


@settings(max_examples=examples(200), suppress_health_check=[HealthCheck.too_slow])
@given(program=programs(), digest=st.sampled_from(["", "sha256", "sha512"]))
def test_any_origin_leads_to_right_bytes_or_a_failure(
    program: tuple[Content, list[Step], list[Content]], digest: str
) -> None:
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
        assert not few_changes, f"an origin that only falters is not given up: {copy.failure}"


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
