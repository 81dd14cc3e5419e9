"""Cuts a body from the origin into pieces and stores them. The last piece waits until the file's digest is checked."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator

from pantala_protocol.redaction import RedactedURL
from pantala_supernode import errors
from pantala_supernode.cdn.attempts import Attempts
from pantala_supernode.cdn.disk import VolumeWriter, settled
from pantala_supernode.cdn.recorder import Recorder
from pantala_supernode.origin.limits import Rate
from pantala_supernode.origin.source import Answer

Keep = Callable[[dict[int, bytearray]], Awaitable[None]]


BUFFER = 16 * 1024 * 1024
"""The most bytes of one copy that are in memory on their way to the disk."""


class PieceCutter:
    """Cuts the bytes ``[start, end)`` of a file into pieces of ``piece_size`` bytes. A piece begins at ``start``.

    The last piece ends at ``end``. With ``end=None`` it remains in :attr:`rest`.
    """

    def __init__(self, piece_size: int, start: int, end: int | None) -> None:
        self.rest = bytearray()
        """The bytes of the unfinished piece."""
        self.surplus = 0
        """How many bytes arrived after ``end``."""
        self.piece_size = piece_size
        self._number = start // piece_size
        self._end = end

    @property
    def position(self) -> int:
        """The position in the file of the first byte that has not arrived."""
        return self._number * self.piece_size + len(self.rest) if not self.done else self._end or 0

    @property
    def done(self) -> bool:
        """True if all bytes up to ``end`` have arrived."""
        return self._end is not None and self._number * self.piece_size + len(self.rest) >= self._end

    def cut(self, data: memoryview) -> Iterator[tuple[int, bytearray]]:
        while data:
            first = self._number * self.piece_size
            size = self.piece_size if self._end is None else min(self.piece_size, self._end - first)
            if size <= 0:
                self.surplus += len(data)
                return
            taken = data[: size - len(self.rest)]
            self.rest += taken
            data = data[len(taken) :]
            if len(self.rest) == size:
                piece, self.rest = self.rest, bytearray()
                self._number += 1
                yield self._number - 1, piece


class Pipeline:
    """Passes pieces to ``keep`` in groups: pieces that arrive during one write are written and synced together.

    At most ``bound`` bytes (or one larger piece) wait or are being written. When it is full, :meth:`give` waits.
    """

    def __init__(self, keep: Keep, bound: int) -> None:
        self._keep = keep
        self._bound = bound
        self._waiting: dict[int, bytearray] = {}
        self._size = 0
        self._writer: asyncio.Task[None] | None = None
        self._room = asyncio.Event()

    async def give(self, number: int, data: bytearray) -> None:
        """Add a piece, and wait while the pipeline is full. Raises the errors of ``keep``."""
        while self._size and self._size + len(data) > self._bound:
            self._room.clear()
            self._check()
            await self._room.wait()
        self._check()
        self._waiting[number] = data
        self._size += len(data)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def drain(self) -> None:
        """Wait until ``keep`` has stored all pieces, even when cancelled. Raises the errors of ``keep``."""
        if self._writer is not None:
            await settled(self._writer)
            self._check()

    async def _write(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting, {}
                await self._keep(group)
                self._size -= sum(map(len, group.values()))
                self._room.set()
        finally:
            self._room.set()

    def _check(self) -> None:
        if self._writer is not None and self._writer.done():
            self._writer.result()


class Intake:
    """Reads all bodies of one try, and stores their pieces."""

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
        """The last piece of the file by its number, once it has arrived; else empty."""
        self.length: int | None = None
        """The length of the file, if the origin did not announce it and a body has ended."""
        self.framed = True
        """True if the last answer's framing shows whether its body was cut."""
        self.cut_at: int | None = None
        """The position at which a body ended too early. ``None``: none has."""
        self._shown = shown
        self._attempts = attempts
        self._writer = writer
        self._rate = rate
        self._on_bytes = on_bytes
        self._on_pieces = on_pieces

    def begin(self) -> None:
        self.last, self.length = {}, None

    async def take_in(self, answer: Answer, recorder: Recorder, start: int, end: int | None) -> None:
        """Read the bytes ``[start, end)`` of the file from the body of ``answer``, and store their pieces."""
        cutter = PieceCutter(recorder.meta.piece_size, start, recorder.meta.length if end is None else end)
        pipeline = Pipeline(self._keep, BUFFER)
        try:
            await self._pour(answer, cutter, pipeline)
        except BaseException:
            with contextlib.suppress(errors.SupernodeError):  # the error that is already raised is more useful
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
            raise errors.SourceInterruptedError.with_action(f"{self._shown} stopped at byte {cutter.position}")

    async def _keep(self, pieces: dict[int, bytearray]) -> None:
        recorder = self._attempts.recorder
        if recorder is None:
            raise RuntimeError("no file was created for the pieces")
        await self._writer.run(lambda: recorder.keep(pieces), sum(map(len, pieces.values())))
        self._attempts.progress()
        self._on_pieces()
