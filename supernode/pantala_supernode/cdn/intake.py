"""Takes in a body from the origin: cuts it into pieces and keeps each one, but holds back the last piece."""

import contextlib
from collections.abc import Callable

from pantala_protocol.redaction import RedactedURL
from pantala_supernode import errors
from pantala_supernode.cdn.attempts import Attempts
from pantala_supernode.cdn.disk import VolumeWriter
from pantala_supernode.cdn.pipeline import PieceCutter, Pipeline
from pantala_supernode.cdn.recorder import Recorder
from pantala_supernode.origin.limits import Rate
from pantala_supernode.origin.source import Answer

BUFFER = 16 * 1024 * 1024
"""The most bytes of one copy that are in memory on their way to the disk."""


class Intake:
    """Reads the bodies of one try. The last piece completes the file, so it waits until the whole was checked."""

    def __init__(
        self,
        shown: RedactedURL,
        attempts: Attempts,
        *,
        writer: VolumeWriter,
        rate: Rate | None,
        on_bytes: Callable[[int], None],
        on_pieces: Callable[[], None],
    ) -> None:
        self.last: dict[int, bytearray] = {}
        """The last piece of the file, once it has arrived."""
        self.length: int | None = None
        """The length of the file, if only the end of a body showed it."""
        self.framed = True
        """True if HTTP can distinguish the end of the last body from a cut."""
        self.cut_at: int | None = None
        """The byte at which a body ended too early."""
        self._shown = shown
        self._attempts = attempts
        self._writer = writer
        self._rate = rate
        self._on_bytes = on_bytes
        self._on_pieces = on_pieces

    def begin(self) -> None:
        self.last, self.length = {}, None

    async def take_in(self, answer: Answer, recorder: Recorder, start: int, end: int | None) -> None:
        """Read the bytes ``[start, end)`` of the file from a body into the recorder."""
        cutter = PieceCutter(recorder.meta.piece_size, start, recorder.meta.length if end is None else end)
        pipeline = Pipeline(self._keep, BUFFER)
        try:
            await self._pour(answer, cutter, pipeline)
        except BaseException:
            with contextlib.suppress(errors.SupernodeError):  # the first error is more useful
                await pipeline.drain()
            raise
        await pipeline.drain()

    async def _pour(self, answer: Answer, cutter: PieceCutter, pipeline: Pipeline) -> None:
        attempts, skip, from_origin = self._attempts, cutter.position - answer.offset, answer.provenance is None
        self.framed = answer.framed or answer.length is not None
        try:
            async for chunk in answer.chunks:
                read = len(chunk) if from_origin else 0
                attempts.read(read)
                self._on_bytes(read)
                if self._rate is not None and from_origin:
                    await self._rate.acquire(len(chunk))
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
        if answer.provenance is not None:
            attempts.know_origin_bytes(answer.provenance.origin_bytes)

    async def _take(self, number: int, piece: bytearray, pipeline: Pipeline) -> None:
        recorder = self._attempts.recorder
        if recorder is not None and number + 1 == recorder.total:
            self.last = {number: piece}
        else:
            await pipeline.give(number, piece)

    def _at_end(self, cutter: PieceCutter) -> bool:
        recorder = self._attempts.recorder
        return recorder is None or recorder.meta.length is None or cutter.position == recorder.meta.length

    def _check_end(self, cutter: PieceCutter) -> None:
        recorder = self._attempts.recorder
        if cutter.surplus:
            raise errors.LengthMismatchError.with_action(f"{self._shown} sent more bytes than it announced")
        if recorder is None or recorder.meta.length is None:
            self.length = cutter.position
            self.last = {cutter.position // cutter.piece_size: cutter.rest} if cutter.rest else {}
        elif not cutter.done:
            self.cut_at = cutter.position
            raise errors.SourceInterruptedError.with_action(f"{self._shown} ended at byte {cutter.position}")

    async def _keep(self, pieces: dict[int, bytearray]) -> None:
        recorder = self._attempts.recorder
        if recorder is None:
            raise RuntimeError("the pieces have no file")
        await self._writer.run(lambda: recorder.keep(pieces), sum(map(len, pieces.values())))
        self._attempts.progress()
        self._on_pieces()
