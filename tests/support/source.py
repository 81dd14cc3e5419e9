"""The fake of the port :class:`pantala_supernode.origin.source.SourceReader`: an origin in memory."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pantala_supernode.errors import LengthMismatchError, SourceError, SourceInterruptedError
from pantala_supernode.origin.body import ChunkBody
from pantala_supernode.origin.source import Answer, Resume
from pantala_supernode.tasks.copy import FileSource


class Content:
    """One content of the origin. Without ``validator`` the answers have no ETag or date that identifies it."""

    def __init__(self, data: bytes, validator: str = "") -> None:
        self.data = data
        self.validator = validator

    def __repr__(self) -> str:
        return f"<{len(self.data)} bytes, validator {self.validator!r}>"


@dataclass(frozen=True)
class Step:
    """The answer to one request. The default has no fault."""

    error: SourceError | None = None
    cut_after: int | None = None
    """The connection breaks after so many bytes of body."""
    ranges: bool = True
    conditional: bool = True
    """False if the origin sends a complete copy again, although the reader's copy is current."""
    length_known: bool = True
    framed: bool = True
    """False if the reader cannot distinguish a broken connection from the end of the body."""
    announced: int = 0
    """A number that is added to the true length in the answer."""
    replace: Content | None = None
    """The origin's new content from this request on."""


class FakeReader:
    """Answers the n-th request by the n-th step, and later requests without a fault."""

    def __init__(self, content: Content, steps: Iterable[Step] = (), *, chunk: int = 50_000) -> None:
        self.content = content
        self.sent = 0
        """The body bytes that were sent in all answers."""
        self.requests: list[Resume | None] = []
        self.headers: list[Mapping[str, str]] = []
        self._steps = list(steps)
        self._chunk = chunk

    @asynccontextmanager
    async def open(self, source: FileSource, resume: Resume | None = None) -> AsyncIterator[Answer]:
        step = self._steps.pop(0) if self._steps else Step()
        self.requests.append(resume)
        self.headers.append(source.headers)
        await asyncio.sleep(0)
        if step.replace is not None:
            self.content = step.replace
        if step.error is not None:
            raise step.error
        content = self.content
        if resume is not None and resume.complete and step.conditional and resume.validator == content.validator != "":
            yield Answer(None, 0, content.validator, "", True, ChunkBody(self._body(b"", Step())), unchanged=True)
            return
        same = resume is not None and resume.validator in ("", content.validator)
        inside = resume is not None and resume.offset < len(content.data)
        first = resume.offset if resume is not None and not resume.complete and step.ranges and same and inside else 0
        end = resume.end if resume is not None and first and resume.end is not None else len(content.data)
        yield Answer(
            length=max(len(content.data) + step.announced, 0) if step.length_known else None,
            offset=first,
            etag=content.validator,
            last_modified="",
            framed=step.framed,
            body=ChunkBody(self._body(content.data[first:end], step)),
        )

    async def _body(self, data: bytes, step: Step) -> AsyncIterator[bytes]:
        stop = len(data) if step.cut_after is None else min(step.cut_after, len(data))
        for start in range(0, stop, self._chunk):
            chunk = data[start : min(start + self._chunk, stop)]
            self.sent += len(chunk)
            yield chunk
            await asyncio.sleep(0)
        if (stop < len(data) or step.announced > 0) and step.framed:
            raise SourceInterruptedError("the origin cut the connection")
        if step.announced < 0 < len(data) == stop:
            raise LengthMismatchError("the origin sent more than it announced")
