"""One try to complete one copy from its origin."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Protocol, TypeVar

from pantala_pieces.errors import StoreFullError
from pantala_pieces.file import Meta, PieceFile
from pantala_pieces.store import PieceStore
from pantala_protocol import digest, geometry, ranges
from pantala_protocol.digest import Digest
from pantala_protocol.redaction import RedactedURL
from pantala_supernode import errors
from pantala_supernode.cdn.copy import FetchOrder
from pantala_supernode.cdn.cutter import Cutter
from pantala_supernode.cdn.history import History
from pantala_supernode.cdn.lane import Lane
from pantala_supernode.cdn.pipeline import Pipeline
from pantala_supernode.cdn.recorder import Recorder
from pantala_supernode.cdn.source import Answer, Lineage, Resume, Source

BUFFER = 16 * 1024 * 1024
"""Bytes of one copy in memory at most, on their way to the disk."""
_CHANGED = errors.SourceChangedError.reason.action
_INTERRUPTED = errors.SourceInterruptedError.reason.action
_LENGTH = errors.LengthMismatchError.reason.action
T = TypeVar("T")
_CUTS = 3
"""Cut so many times at the same byte, a body is shorter than announced and not unlucky."""


class Limiter(Protocol):
    """Bounds the bytes per second from origins; :class:`aiolimiter.AsyncLimiter` is one."""

    async def acquire(self, amount: float = 1) -> None:
        """Wait until ``amount`` bytes may be read."""


class Fetch:
    """One try. It ends with the whole on the volume, or raises :class:`pantala_supernode.errors.SupernodeError`."""

    def __init__(
        self,
        order: FetchOrder,
        history: History,
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
        self._history = history
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
        try:
            await self._lose()
            while (gap := self._gap()) is not None:
                await self._wait_for_room()
                await self._read(*gap)
                await self._lose()
            await self._conclude()
        except (errors.SourceChangedError, errors.LengthMismatchError):
            self._history.budget.restarts += 1
            await self._drop()
            raise
        except errors.SourceInterruptedError as error:
            raise self._judged(error) from None

    async def _lose(self) -> None:
        recorder, lost = self._history.recorder, self._history.lost
        if recorder is not None and lost:
            await self._lane.run(lambda: recorder.lose(lost))
        self._history.lost &= ~lost

    def _gap(self) -> tuple[int, int | None] | None:
        """The first bytes that are missing, ``(start, end)``; end ``None``: the rest of the file."""
        recorder = self._history.recorder
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
            if answer.lineage is not None and answer.lineage.end is not None:
                end = answer.lineage.end
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
        recorder = self._history.recorder
        if recorder is None or not recorder.have:
            return None
        validator = recorder.meta.etag or recorder.meta.last_modified
        return Resume(start, end, validator, recorder.meta.generation) if validator or self._expected else None

    async def _adopt(self, answer: Answer, resume: Resume | None) -> tuple[Recorder, bool]:
        """Tell whether the answer continues the content that is there; if not, begin a new generation with it."""
        recorder = self._history.recorder
        if answer.lineage is not None:
            return await self._join(answer, answer.lineage)
        if recorder is not None and resume is not None:
            if self._same(answer, recorder.meta):
                self._history.stitched |= not resume.validator
                return recorder, True
            if answer.offset > 0 and answer.validator and answer.validator == resume.validator:
                raise errors.LengthMismatchError(
                    f"{self._shown} announced {recorder.meta.length} bytes before and {answer.length} bytes now, "
                    f"of the same content. {_LENGTH}"
                )
            if answer.offset > 0 or self._history.budget.spent:
                raise errors.SourceChangedError(f"{self._shown} has a new content. {_CHANGED}")
            if resume.validator:
                self._history.budget.restarts += 1
                self._history.cut_at = -1  # where another content was cut says nothing of this one
        if answer.length is None and not answer.framed and self._expected is None:
            raise errors.SourceProtocolError(
                f"{self._shown} tells neither how long its body is nor where it ends, so a cut would not be seen. "
                "Give spec.digest in a new Task, or have the origin send Content-Length."
            )
        return await self._begin(answer), False

    async def _join(self, answer: Answer, lineage: Lineage) -> tuple[Recorder, bool]:
        """Go on with the copy of another supernode, or begin with it if ours is of another generation."""
        recorder, history = self._history.recorder, self._history
        continued = recorder is not None and recorder.meta.generation == lineage.generation
        if recorder is None or not continued:
            recorder = await self._begin(answer)
        history.lineage = lineage
        history.origin_bytes = max(history.origin_bytes, lineage.origin_bytes)
        return recorder, continued

    def _same(self, answer: Answer, meta: Meta) -> bool:
        if answer.length is not None and meta.length is not None and answer.length != meta.length:
            return False
        if meta.etag:
            return answer.etag == meta.etag
        if meta.last_modified:
            return answer.last_modified == meta.last_modified
        return answer.offset > 0 and answer.length == meta.length  # the whole's digest will tell

    async def _begin(self, answer: Answer) -> Recorder:
        lineage = answer.lineage
        meta = Meta(
            task_id=self._order.task_id,
            generation=lineage.generation if lineage is not None else f"{self._rng.getrandbits(64):016x}",
            piece_size=lineage.piece_size if lineage is not None else geometry.piece_size(answer.length),
            length=answer.length,
            etag=answer.etag,
            last_modified=answer.last_modified,
        )
        history = self._history
        history.recorder, history.lineage, history.stitched, history.lost = None, None, False, 0
        self._last, self._length = {}, None
        self._on_pieces()  # the former content's pieces are not there any more
        file = await self._on_volume(lambda: _create(self._store, meta), answer.length or meta.piece_size)
        history.recorder = Recorder(file, verified=True)
        return history.recorder

    async def _pour(self, answer: Answer, cutter: Cutter, pipeline: Pipeline) -> None:
        """Give the body's pieces to the pipeline; but the very last one waits for the body's end."""
        history, skip = self._history, cutter.position - answer.offset
        self._framed = answer.framed or answer.length is not None
        try:
            async for chunk in answer.chunks:
                history.origin_bytes += len(chunk) if answer.lineage is None else 0
                self._on_answer()
                if self._limiter is not None and answer.lineage is None:
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
        if answer.lineage is not None:
            history.origin_bytes = max(history.origin_bytes, answer.lineage.origin_bytes)

    async def _take(self, number: int, piece: bytearray, pipeline: Pipeline) -> None:
        recorder = self._history.recorder
        if recorder is not None and number + 1 == recorder.total:
            self._last = {number: piece}
        else:
            await pipeline.give(number, piece)

    def _at_end(self, cutter: Cutter) -> bool:
        recorder = self._history.recorder
        return recorder is None or recorder.meta.length is None or cutter.position == recorder.meta.length

    def _check_end(self, cutter: Cutter) -> None:
        """Check, after the body ended in order, that it ended where it should."""
        recorder = self._history.recorder
        if cutter.surplus:
            raise errors.LengthMismatchError(f"{self._shown} sent more bytes than it announced. {_LENGTH}")
        if recorder is None or recorder.meta.length is None:
            self._length = cutter.position
            self._last = {cutter.position // cutter.piece_size: cutter.rest} if cutter.rest else {}
        elif not cutter.done:
            self._cut_at = cutter.position
            raise errors.SourceInterruptedError(f"{self._shown} ended at byte {cutter.position}. {_INTERRUPTED}")

    def _judged(self, error: errors.SourceInterruptedError) -> errors.SourceError:
        """A body that ends time and again at the same byte is not cut by chance. Its pieces are kept all the same."""
        if self._cut_at is None or self._history.cut(self._cut_at) < _CUTS:
            return error
        recorder = self._history.recorder
        return errors.LengthMismatchError(
            f"{self._shown} ended {_CUTS} times at byte {self._cut_at}, though it announced "
            f"{recorder.meta.length if recorder and recorder.meta.length is not None else 'more'}. {_LENGTH}"
        )

    async def _keep(self, pieces: dict[int, bytearray]) -> None:
        recorder = self._history.recorder
        if recorder is None:
            raise RuntimeError("pieces without a file to keep them in")
        await self._on_volume(lambda: recorder.keep(pieces), sum(map(len, pieces.values())))
        self._history.budget.streak = 0
        self._on_pieces()

    async def _conclude(self) -> None:
        recorder = self._history.recorder
        length = self._length if recorder is None or recorder.meta.length is None else recorder.meta.length
        if recorder is None or length is None:
            raise RuntimeError("nothing was read")
        try:
            await self._on_volume(
                lambda: recorder.conclude(self._last, length, self._whole(), self._history.origin_bytes),
                sum(map(len, self._last.values())),
            )
        except errors.DigestMismatchError:
            stitched, lineage, history = self._history.stitched, self._history.lineage, self._history
            await self._drop()
            if lineage is not None:
                lineage.on_wrong()
                raise errors.SiblingError(
                    f"What another supernode gave of {self._shown} is not right. It is fetched anew."
                ) from None
            if not self._framed and length != history.cut_at:
                history.cut_at = length
                raise errors.SourceInterruptedError(
                    f"{self._shown} closed the connection at byte {length}, and the digest is not right yet. "
                    f"{_INTERRUPTED}"
                ) from None
            if stitched:
                raise errors.SourceChangedError(f"{self._shown} changed between two requests. {_CHANGED}") from None
            raise
        self._on_pieces()

    def _whole(self) -> Digest | None:
        """What the whole must have: the digest that was asked for, else that of the copy that ours is made from."""
        lineage = self._history.lineage
        return self._expected or (digest.parse(lineage.digest) if lineage is not None and lineage.digest else None)

    async def _on_volume(self, job: Callable[[], T], size: int) -> T:
        """Run ``job``; if there is no room, remember that ``size`` bytes are wanting."""
        try:
            return await self._lane.run(job)
        except errors.VolumeFullError:
            self._history.room_needed = size
            raise

    async def _drop(self) -> None:
        """Throw the pieces away: they are of no content that is wanted."""
        self._history.recorder = self._history.lineage = None
        self._history.stitched, self._history.lost = False, 0
        self._on_pieces()  # nobody may count on them from here on
        await self._lane.run(lambda: self._store.delete(self._order.task_id))

    async def _wait_for_room(self) -> None:
        needed = self._history.room_needed
        if needed:
            free = (await self._lane.run(self._store.usage)).free
            if free < needed:
                raise errors.VolumeFullError(
                    f"{self._shown} needs {needed} bytes on the volume and {free} are free. "
                    f"{errors.VolumeFullError.reason.action}"
                )
            self._history.room_needed = 0


def _create(store: PieceStore, meta: Meta) -> PieceFile:
    file = store.create(meta)
    try:
        file.reserve()
    except StoreFullError:
        store.delete(meta.task_id)
        raise
    return file
