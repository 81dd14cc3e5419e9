"""A body on its way from the origin to the volume: cut into pieces, kept as they come, the very last one held back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Protocol

from pantala_protocol.redaction import RedactedURL
from pantala_supernode import errors
from pantala_supernode.cdn.attempts import Attempts
from pantala_supernode.cdn.cutter import Cutter
from pantala_supernode.cdn.pipeline import Pipeline
from pantala_supernode.cdn.recorder import Recorder
from pantala_supernode.cdn.room import Room
from pantala_supernode.origin.source import Answer

BUFFER = 16 * 1024 * 1024
"""Bytes of one copy in memory at most, on their way to the disk."""
_INTERRUPTED = errors.SourceInterruptedError.reason.action
_LENGTH = errors.LengthMismatchError.reason.action


class Limiter(Protocol):
    """Bounds the bytes per second from origins; :class:`pantala_supernode.origin.rate.Rate` is one."""

    async def acquire(self, amount: float = 1) -> None:
        """Wait until ``amount`` bytes may be read."""


class Intake:
    """Takes in the bodies that one try reads. With its last piece the whole is right or wrong, so that one waits."""

    def __init__(
        self,
        shown: RedactedURL,
        history: Attempts,
        *,
        room: Room,
        limiter: Limiter | None,
        on_bytes: Callable[[int], None],
        on_pieces: Callable[[], None],
    ) -> None:
        self.last: dict[int, bytearray] = {}
        """The last piece of the file, once it came."""
        self.length: int | None = None
        """Bytes of the whole, where only a body's end told."""
        self.framed = True
        """Whether a cut could be told from the end of the body that was read last."""
        self.cut_at: int | None = None
        """Which byte did not come, though it was to."""
        self._shown = shown
        self._history = history
        self._room = room
        self._limiter = limiter
        self._on_bytes = on_bytes
        self._on_pieces = on_pieces

    def begin(self) -> None:
        """Another content comes."""
        self.last, self.length = {}, None

    async def take_in(self, answer: Answer, recorder: Recorder, start: int, end: int | None) -> None:
        """Read a body, of which the bytes ``[start, end)`` of the file are wanted, into the recorder."""
        cutter = Cutter(recorder.meta.piece_size, start, recorder.meta.length if end is None else end)
        pipeline = Pipeline(self._keep, BUFFER)
        try:
            await self._pour(answer, cutter, pipeline)
        except BaseException:
            with contextlib.suppress(errors.SupernodeError):  # what made the pouring end says more
                await pipeline.drain()
            raise
        await pipeline.drain()

    async def _pour(self, answer: Answer, cutter: Cutter, pipeline: Pipeline) -> None:
        """Give the body's pieces to the pipeline; but the very last one waits for the body's end."""
        history, skip = self._history, cutter.position - answer.offset
        self.framed = answer.framed or answer.length is not None
        try:
            async for chunk in answer.chunks:
                read = len(chunk) if answer.lineage is None else 0
                history.origin_bytes += read
                self._on_bytes(read)
                if self._limiter is not None and answer.lineage is None:
                    await self._limiter.acquire(len(chunk))
                view = memoryview(chunk)[min(skip, len(chunk)) :]
                skip -= len(chunk) - len(view)
                for number, piece in cutter.cut(view):
                    await self._take(number, piece, pipeline)
                if cutter.done and not self._at_end(cutter):
                    return
        except errors.SourceInterruptedError:
            self.cut_at = cutter.position
            raise
        self._on_bytes(0)  # an empty file is an answer, too
        self._check_end(cutter)
        if answer.lineage is not None:
            history.origin_bytes = max(history.origin_bytes, answer.lineage.origin_bytes)

    async def _take(self, number: int, piece: bytearray, pipeline: Pipeline) -> None:
        recorder = self._history.recorder
        if recorder is not None and number + 1 == recorder.total:
            self.last = {number: piece}
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
            self.length = cutter.position
            self.last = {cutter.position // cutter.piece_size: cutter.rest} if cutter.rest else {}
        elif not cutter.done:
            self.cut_at = cutter.position
            raise errors.SourceInterruptedError(f"{self._shown} ended at byte {cutter.position}. {_INTERRUPTED}")

    async def _keep(self, pieces: dict[int, bytearray]) -> None:
        recorder = self._history.recorder
        if recorder is None:
            raise RuntimeError("pieces without a file to keep them in")
        await self._room.run(lambda: recorder.keep(pieces), sum(map(len, pieces.values())))
        self._history.budget.streak = 0
        self._on_pieces()
