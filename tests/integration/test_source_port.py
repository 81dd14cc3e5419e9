"""The promises of a source: the HTTP reader keeps them, and so does the fake of the unit tests."""

from collections.abc import AsyncIterator, Callable

import pytest

from pantala_supernode.errors import LengthMismatchError, SourceInterruptedError
from pantala_supernode.origin.body import Layout
from pantala_supernode.origin.source import Answer, Resume, SourceReader
from pantala_supernode.tasks.copy import FileSource
from testbed.origin import Behaviour, Generated, Origin
from tests.support.outbound import http_reader
from tests.support.source import Content, FakeReader, Step

BODY = Generated(300_000)
DATA = BODY.read(0, BODY.size)
ETAG = f'"{BODY.etag}"'
Ready = Callable[[Step], tuple[SourceReader, FileSource]]


@pytest.fixture(params=["memory", "http"])
async def ready(request: pytest.FixtureRequest) -> AsyncIterator[Ready]:
    """Prepares one answer."""
    async with Origin() as origin, http_reader() as reader:
        source = FileSource(origin.url("/file"))

        def prepare(step: Step) -> tuple[SourceReader, FileSource]:
            if request.param == "memory":
                return FakeReader(Content(DATA, ETAG), [step]), source
            how = Behaviour(
                close_after=step.cut_after, ranges=step.ranges, conditional=step.conditional, announced=step.announced,
                framing="length" if step.length_known else "chunked" if step.framed else "close",
            )  # fmt: skip
            origin.serve("/file", BODY, always=how)
            return reader, source

        yield prepare


async def ask(ready: Ready, step: Step, resume: Resume | None = None) -> tuple[Answer, bytes]:
    reader, source = ready(step)
    async with reader.open(source, resume) as answer:
        return answer, b"".join([block async for block in answer.body.blocks(Layout(65536))])


@pytest.mark.parametrize(
    ("step", "length", "framed"),
    [
        (Step(), BODY.size, True),
        (Step(length_known=False), None, True),
        (Step(length_known=False, framed=False), None, False),
    ],
)
async def test_a_whole_file(ready: Ready, step: Step, length: int | None, *, framed: bool) -> None:
    answer, body = await ask(ready, step)
    assert (length, framed, 0, ETAG, False) == (
        answer.length, answer.framed, answer.offset, answer.validator, answer.unchanged,
    )  # fmt: skip
    assert DATA == body


@pytest.mark.parametrize(
    ("step", "resume", "first", "end"),
    [
        (Step(), Resume(1000, None, ETAG), 1000, None),
        (Step(), Resume(1000, 1500, ETAG), 1000, 1500),
        (Step(), Resume(1000), 1000, None),
        (Step(), Resume(1000, None, '"another"'), 0, None),
        (Step(ranges=False), Resume(1000, None, ETAG), 0, None),
        (Step(), Resume(0, None, '"another"', complete=True), 0, None),
        (Step(conditional=False), Resume(0, None, ETAG, complete=True), 0, None),
    ],
)
async def test_a_part_or_other_content(ready: Ready, step: Step, resume: Resume, first: int, end: int | None) -> None:
    answer, body = await ask(ready, step, resume)
    assert (BODY.size, first, False) == (answer.length, answer.offset, answer.unchanged)
    assert DATA[first:end] == body


async def test_an_unchanged_content_has_no_body(ready: Ready) -> None:
    answer, body = await ask(ready, Step(), Resume(0, None, ETAG, complete=True))
    assert (True, ETAG, b"") == (answer.unchanged, answer.validator, body)


@pytest.mark.parametrize(
    ("step", "error"),
    [
        (Step(cut_after=1000), SourceInterruptedError),
        (Step(cut_after=1000, length_known=False), SourceInterruptedError),
        (Step(announced=200), SourceInterruptedError),
        (Step(announced=-200), LengthMismatchError),
    ],
)
async def test_a_body_of_another_length_is_an_error(ready: Ready, step: Step, error: type[Exception]) -> None:
    with pytest.raises(error):
        await ask(ready, step)


async def test_a_cut_of_an_unframed_body_looks_like_its_end(ready: Ready) -> None:
    _, body = await ask(ready, Step(cut_after=1000, length_known=False, framed=False))
    assert DATA[:1000] == body
