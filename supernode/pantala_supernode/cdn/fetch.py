"""One try to complete one copy from its origin."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from pantala_pieces.errors import StoreFullError
from pantala_pieces.file import Meta, PieceFile
from pantala_pieces.store import PieceStore
from pantala_protocol import digest, geometry, ranges
from pantala_protocol.redaction import RedactedURL
from pantala_supernode import errors
from pantala_supernode.cdn.copy import FetchOrder
from pantala_supernode.cdn.cutter import Cutter
from pantala_supernode.cdn.lane import Lane
from pantala_supernode.cdn.pipeline import Pipeline
from pantala_supernode.cdn.recorder import Recorder
from pantala_supernode.cdn.retry import RetryBudget
from pantala_supernode.cdn.source import Answer, Resume, Source

BUFFER = 16 * 1024 * 1024
"""Bytes of one copy in memory at most, on their way to the disk."""
_CHANGED = errors.SourceChangedError.reason.action
_INTERRUPTED = errors.SourceInterruptedError.reason.action
T = TypeVar("T")
_CUTS = 3
"""Cut so many times at the same byte, a body is shorter than announced and not unlucky."""


class Limiter(Protocol):
    """Bounds the bytes per second from origins; :class:`aiolimiter.AsyncLimiter` is one."""

    async def acquire(self, amount: float = 1) -> None:
        """Wait until ``amount`` bytes may be read."""


@dataclass
class Progress:
    """What outlives a try: the pieces, and what is known of the origin's ways."""

    recorder: Recorder | None = None
    origin_bytes: int = 0
    budget: RetryBudget = field(default_factory=RetryBudget)
    room_needed: int = 0
    """Bytes that the volume lacked; until they are free the origin is not asked."""
    cut_at: int = -1
    cuts: int = 0
    """How often in a row the body ended at ``cut_at``."""
    stitched: bool = False
    """The pieces come from several answers that nothing but the whole's digest proves to be of one content."""


class Fetch:
    """One try. It ends with the whole on the volume, or raises :class:`pantala_supernode.errors.SupernodeError`."""

    def __init__(
        self,
        order: FetchOrder,
        progress: Progress,
        *,
        store: PieceStore,
        source: Source,
        lane: Lane,
        rng: random.Random,
        limiter: Limiter | None,
        on_answer: Callable[[], None],
        on_pieces: Callable[[], None],
    ) -> None:
        self._order = order
        self._progress = progress
        self._store = store
        self._source = source
        self._lane = lane
        self._rng = rng
        self._limiter = limiter
        self._on_answer = on_answer
        self._on_pieces = on_pieces
        self._shown = RedactedURL(order.url)
        self._expected = digest.parse(order.digest) if order.digest else None
        self._last: dict[int, bytearray] = {}
        self._length: int | None = None
        self._framed = True
        self._cut_at: int | None = None

    async def run(self) -> None:
        """Read what is missing, in as few requests as there are gaps, then check and keep the whole."""
        while (gap := self._gap()) is not None:
            await self._wait_for_room()
            try:
                await self._read(*gap)
            except (errors.SourceChangedError, errors.LengthMismatchError):
                self._progress.budget.restarts += 1
                await self._drop()
                raise
            except errors.SourceInterruptedError as error:
                raise self._judged(error) from None
        await self._conclude()

    def _gap(self) -> tuple[int, int | None] | None:
        """The first bytes that are missing, ``(start, end)``; end ``None``: the rest of the file."""
        recorder = self._progress.recorder
        if self._length is not None:
            return None
        if recorder is None:
            return 0, None
        size, missing = recorder.meta.piece_size, recorder.missing
        if missing is None:
            first_gap = (~recorder.have & (recorder.have + 1)).bit_length() - 1
            return first_gap * size, None
        runs = ranges.runs(missing & ~sum(1 << number for number in self._last))
        for first, last in runs:
            return first * size, None if last + 1 == recorder.total else (last + 1) * size
        return None

    async def _read(self, start: int, end: int | None) -> None:
        resume = self._resume(start, end)
        async with self._source.open(self._order.url, self._order.headers, resume) as answer:
            recorder, continued = await self._adopt(answer, resume)
            if not continued:
                start, end = 0, None
            cutter = Cutter(recorder.meta.piece_size, start, recorder.meta.length if end is None else end)
            pipeline = Pipeline(self._keep, BUFFER)
            try:
                await self._pour(answer, cutter, pipeline)
            except BaseException:
                with contextlib.suppress(errors.SupernodeError):  # what made the pouring end says more
                    await pipeline.drain()
                raise
            await pipeline.drain()

    def _resume(self, start: int, end: int | None) -> Resume | None:
        recorder = self._progress.recorder
        if recorder is None or not recorder.have:
            return None
        validator = recorder.meta.etag or recorder.meta.last_modified
        return Resume(start, end, validator) if validator or self._expected else None

    async def _adopt(self, answer: Answer, resume: Resume | None) -> tuple[Recorder, bool]:
        """Tell whether the answer continues the content that is there; if not, begin a new generation with it."""
        recorder = self._progress.recorder
        if recorder is not None and resume is not None:
            if self._same(answer, recorder.meta):
                self._progress.stitched |= not resume.validator
                return recorder, True
            if answer.offset > 0 and answer.validator and answer.validator == resume.validator:
                raise errors.LengthMismatchError(
                    f"{self._shown} announced {recorder.meta.length} bytes before and {answer.length} bytes now, "
                    "of the same content. Check the origin."
                )
            if answer.offset > 0 or self._progress.budget.spent:
                raise errors.SourceChangedError(f"{self._shown} has a new content. {_CHANGED}")
            self._progress.budget.restarts += bool(resume.validator)
        if answer.length is None and not answer.framed and self._expected is None:
            raise errors.SourceProtocolError(
                f"{self._shown} tells neither how long its body is nor where it ends, so a cut would not be seen. "
                "Give spec.digest in a new Task, or have the origin send Content-Length."
            )
        return await self._begin(answer), False

    def _same(self, answer: Answer, meta: Meta) -> bool:
        if answer.length is not None and meta.length is not None and answer.length != meta.length:
            return False
        if meta.etag:
            return answer.etag == meta.etag
        if meta.last_modified:
            return answer.last_modified == meta.last_modified
        return answer.offset > 0 and answer.length == meta.length  # the whole's digest will tell

    async def _begin(self, answer: Answer) -> Recorder:
        meta = Meta(
            task_id=self._order.task_id,
            generation=f"{self._rng.getrandbits(64):016x}",
            piece_size=geometry.piece_size(answer.length),
            length=answer.length,
            etag=answer.etag,
            last_modified=answer.last_modified,
        )
        progress = self._progress
        progress.recorder, progress.stitched = None, False
        file = await self._on_volume(lambda: _create(self._store, meta), answer.length or meta.piece_size)
        progress.recorder = Recorder(file, verified=True)
        return progress.recorder

    async def _pour(self, answer: Answer, cutter: Cutter, pipeline: Pipeline) -> None:
        """Give the body's pieces to the pipeline; but the very last one waits for the body's end."""
        progress, skip = self._progress, cutter.position - answer.offset
        self._framed = answer.framed or answer.length is not None
        try:
            async for chunk in answer.chunks:
                progress.origin_bytes += len(chunk)
                self._on_answer()
                if self._limiter is not None:
                    await self._limiter.acquire(len(chunk))
                view = memoryview(chunk)[min(skip, len(chunk)) :]
                skip -= len(chunk) - len(view)
                for number, piece in cutter.cut(view):
                    await self._take(number, piece, pipeline)
                if cutter.done and not self._at_end(cutter):
                    return
        except errors.SourceInterruptedError:
            self._cut_at = cutter.position
            raise
        self._on_answer()
        self._check_end(cutter)

    async def _take(self, number: int, piece: bytearray, pipeline: Pipeline) -> None:
        recorder = self._progress.recorder
        if recorder is not None and number + 1 == recorder.total:
            self._last = {number: piece}
        else:
            await pipeline.give(number, piece)

    def _at_end(self, cutter: Cutter) -> bool:
        recorder = self._progress.recorder
        return recorder is None or recorder.meta.length is None or cutter.position == recorder.meta.length

    def _check_end(self, cutter: Cutter) -> None:
        """Check, after the body ended in order, that it ended where it should."""
        recorder = self._progress.recorder
        if cutter.surplus:
            raise errors.LengthMismatchError(f"{self._shown} sent more bytes than it announced. Check the origin.")
        if recorder is None or recorder.meta.length is None:
            self._length = cutter.position
            self._last = {cutter.position // cutter.piece_size: cutter.rest} if cutter.rest else {}
        elif not cutter.done:
            self._cut_at = cutter.position
            raise errors.SourceInterruptedError(f"{self._shown} ended at byte {cutter.position}. {_INTERRUPTED}")

    def _judged(self, error: errors.SourceInterruptedError) -> errors.SourceError:
        """A body that ends time and again at the same byte is not cut by chance. Its pieces are kept all the same."""
        progress = self._progress
        if self._cut_at is None:
            return error
        progress.cuts = progress.cuts + 1 if self._cut_at == progress.cut_at else 1
        progress.cut_at = self._cut_at
        if progress.cuts < _CUTS:
            return error
        length = progress.recorder.meta.length if progress.recorder else None
        return errors.LengthMismatchError(
            f"{self._shown} ended {progress.cuts} times at byte {self._cut_at}, though it announced "
            f"{'more' if length is None else length}. Check the origin."
        )

    async def _keep(self, pieces: dict[int, bytearray]) -> None:
        recorder = self._progress.recorder
        if recorder is None:
            raise RuntimeError("pieces without a file to keep them in")
        await self._on_volume(lambda: recorder.keep(pieces), sum(map(len, pieces.values())))
        self._progress.budget.streak = 0
        self._on_pieces()

    async def _conclude(self) -> None:
        recorder = self._progress.recorder
        length = self._length if recorder is None or recorder.meta.length is None else recorder.meta.length
        if recorder is None or length is None:
            raise RuntimeError("nothing was read")
        try:
            await self._on_volume(
                lambda: recorder.conclude(self._last, length, self._expected), sum(map(len, self._last.values()))
            )
        except errors.DigestMismatchError:
            stitched, progress = self._progress.stitched, self._progress
            await self._drop()
            if not self._framed and length != progress.cut_at:
                progress.cut_at = length
                raise errors.SourceInterruptedError(
                    f"{self._shown} closed the connection at byte {length}, and the digest is not right yet."
                ) from None
            if stitched:
                progress.budget.restarts += 1
                raise errors.SourceChangedError(f"{self._shown} changed between two requests. {_CHANGED}") from None
            raise
        self._on_pieces()

    async def _on_volume(self, job: Callable[[], T], size: int) -> T:
        """Run ``job``; if there is no room, remember that ``size`` bytes are wanting."""
        try:
            return await self._lane.run(job)
        except errors.VolumeFullError:
            self._progress.room_needed = size
            raise

    async def _drop(self) -> None:
        """Throw the pieces away: they are of no content that is wanted."""
        self._progress.recorder = None
        self._progress.stitched = False
        await self._lane.run(lambda: self._store.delete(self._order.task_id))

    async def _wait_for_room(self) -> None:
        needed = self._progress.room_needed
        if needed:
            free = (await self._lane.run(self._store.usage)).free
            if free < needed:
                raise errors.VolumeFullError(
                    f"{self._shown} needs {needed} bytes on the volume and {free} are free. "
                    f"{errors.VolumeFullError.reason.action}"
                )
            self._progress.room_needed = 0


def _create(store: PieceStore, meta: Meta) -> PieceFile:
    file = store.create(meta)
    try:
        file.reserve()
    except StoreFullError:
        store.delete(meta.task_id)
        raise
    return file
