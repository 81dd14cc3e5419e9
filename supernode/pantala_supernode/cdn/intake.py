"""Reads bodies from origins and replicas, and stores their pieces. The last piece waits for the digest's check."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

from pantala_protocol.redaction import RedactedURL
from pantala_supernode import errors
from pantala_supernode.cdn.attempts import Attempts
from pantala_supernode.cdn.disk import VolumeWriter, settled
from pantala_supernode.cdn.recorder import Recorder
from pantala_supernode.cdn.segments import Segment
from pantala_supernode.origin.body import PART, BlockPool, Body, Layout
from pantala_supernode.origin.source import Answer
from pantala_supernode.tasks.accounts import UNLIMITED
from pantala_supernode.tasks.tenancy import ReadBudget

Keep = Callable[[dict[int, bytearray]], Awaitable[None]]

BUFFER = 12 * 1024 * 1024
"""The most bytes of one copy that wait in memory until they are written to the disk."""


class Pipeline:
    """Passes pieces to ``keep`` in groups. Pieces that arrive during a write are written and synced together after it.

    At most ``bound`` bytes, or one larger piece, wait or are being written. At this limit, :meth:`give` waits.
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
                size = sum(map(len, group.values()))  # now, because other bodies may use the blocks later
                await self._keep(group)
                self._size -= size
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
        budget: ReadBudget,
        on_bytes: Callable[[int], None],
        on_pieces: Callable[[], None],
    ) -> None:
        self.last: dict[int, bytearray] = {}
        """The last piece of the file by its number. Empty until this piece has arrived."""
        self.length: int | None = None
        """The length of the file, if only the end of a body showed it. ``None``: it was announced, or is not known."""
        self.framed = True
        """True if the last answer has a length or chunks, which show whether its body was cut."""
        self.cut_at: int | None = None
        """The position in the file at which a body ended too early. ``None``: no body ended too early."""
        self._shown = shown
        self._attempts = attempts
        self._writer = writer
        self._budget = budget
        self._on_bytes = on_bytes
        self._on_pieces = on_pieces
        self._pipeline = Pipeline(self._keep, BUFFER)
        self._pool = BlockPool()
        self._bodies: set[Body] = set()
        self._ended = 0
        """Bytes of the bodies that have ended."""

    def begin(self) -> None:
        self.last, self.length = {}, None

    def release(self) -> None:
        """Free all blocks now, because the garbage collector runs rarely."""
        self.last = {}
        self._pool.clear()

    @property
    def received(self) -> int:
        """The bytes of all bodies of this try that have arrived."""
        return self._ended + sum(body.received for body in self._bodies)

    @asynccontextmanager
    async def keeping(self) -> AsyncIterator[None]:
        """Store the pieces that are read inside the block. At its end, all these pieces are durable."""
        self._pipeline = Pipeline(self._keep, BUFFER)
        try:
            yield
        except BaseException:
            with contextlib.suppress(errors.SupernodeError):  # the error that is already raised is more useful
                await self._pipeline.drain()
            raise
        await self._pipeline.drain()

    async def take_in(self, answer: Answer, recorder: Recorder, segment: Segment) -> None:
        """Read the pieces of a segment from the body of ``answer``. The segment may end after the end of the file."""
        self.framed = answer.framed or answer.length is not None
        size, first, body = recorder.meta.piece_size, segment.next, answer.body
        prefix = await self._writer.run(lambda: recorder.read_part(first)) if recorder.part_size(first) else b""

        def save(number: int, start: int, data: memoryview) -> None:
            recorder.save_part(first + number, start, data)

        # Another replica's body arrives in the event loop, which must not write to the disk.
        layout = Layout(
            size,
            skip=first * size + len(prefix) - answer.offset,
            prefix=prefix,
            save=save if answer.provenance is None else None,
            pool=self._pool,
        )
        counted = self._count(answer, 0)
        allowed = self._allow(answer, recorder)
        self._bodies.add(body)
        try:
            async with aclosing(body.blocks(layout)) as blocks:
                async for block in blocks:
                    counted = self._count(answer, counted)
                    if recorder.meta.length is None:
                        allowed = self._allow(answer, recorder)
                    if segment.next >= segment.stop:
                        raise errors.LengthMismatchError.with_action(f"{self._shown} sent more bytes than it announced")
                    if not await self._take(segment.next, block, recorder):
                        break
                    segment.advance()
                    if segment.stop != recorder.total and answer.end != segment.stop * size:
                        if segment.next >= segment.stop:
                            return
                        body.stop_at(min(allowed, segment.stop * size - answer.offset))
                # Reading a body to its end lets the next request use the same connection.
            if body.received >= allowed:  # the quota stopped the body; this raises unless the quota now allows more
                self._allow(answer, recorder)
                raise errors.SourceInterruptedError.with_action(f"{self._shown} was not read to its end")
            self._check_end(answer, recorder, segment)
        except errors.SourceInterruptedError:
            self.cut_at = answer.offset + body.received
            raise
        finally:
            self._count(answer, counted)
            self._bodies.remove(body)
            self._ended += body.received
        if answer.provenance is not None:
            self._attempts.know_origin_bytes(answer.provenance.origin_bytes)

    def _allow(self, answer: Answer, recorder: Recorder) -> int:
        """Reserve quotas for the next bytes of a body. Returns how many bytes of it may arrive."""
        length, size = recorder.meta.length, recorder.meta.piece_size
        if answer.provenance is not None:
            return UNLIMITED
        if length is not None:
            self._budget.expect(min(length, (recorder.missing or 0).bit_count() * size))
            return UNLIMITED
        allowed = self._budget.extend(answer.offset, answer.body.received)
        if allowed < UNLIMITED:
            answer.body.stop_at(allowed)
        return allowed

    def _count(self, answer: Answer, counted: int) -> int:
        """Count the bytes of an answer after its first ``counted`` bytes. Returns how many bytes have arrived."""
        received = answer.body.received
        read = received - counted if answer.provenance is None else 0
        self._attempts.origin_bytes += read
        self._budget.count(read)
        self._on_bytes(read)
        return received

    async def _take(self, number: int, block: bytearray, recorder: Recorder) -> bool:
        """Store a block as a piece. The last piece is only put into :attr:`last`.

        Returns False for the block of a body that ended inside a piece. This part of the piece is saved.
        """
        length, size = recorder.meta.length, recorder.meta.piece_size
        expected = size if length is None else min(size, length - number * size)
        if len(block) > max(expected, 0):
            raise errors.LengthMismatchError.with_action(f"{self._shown} sent more bytes than it announced")
        if length is not None and len(block) < expected:  # the body has ended inside the piece
            await self._writer.run(lambda: recorder.save_part(number, 0, memoryview(block)))
            return False
        if number + 1 == recorder.total or len(block) < size:
            self.last = {number: block}
        else:
            await self._pipeline.give(number, block)
        return True

    def _check_end(self, answer: Answer, recorder: Recorder, segment: Segment) -> None:
        """Check where the body ended. If no length was announced, this is the end of the file.

        The answer to a request for all remaining bytes may contain only some of them, and usually announces the length.
        If the length is missing, the next request repeats the last byte. If only this byte arrives, the file ends.
        Some servers send only a part of each range. That does not count as a failure, and the next request continues.
        """
        end, length = answer.offset + answer.body.received, recorder.meta.length
        if length is None:
            partial = answer.end is not None and answer.provenance is None and answer.body.received > 1
            if partial if answer.length is None else end < answer.length:
                raise errors.SourceInterruptedError.with_action(f"{self._shown} sent a part that ends at byte {end}")
            self.length = end
        elif end < min(length, segment.stop * recorder.meta.piece_size) and not _is_capped(answer, recorder, segment):
            raise errors.SourceInterruptedError.with_action(f"{self._shown} stopped at byte {end}")

    async def _keep(self, pieces: dict[int, bytearray]) -> None:
        recorder = self._attempts.recorder
        if recorder is None:
            raise RuntimeError("no file was created for the pieces")
        if len(pieces) == 1:
            await self._writer.run(lambda: recorder.keep(pieces), sum(map(len, pieces.values())))
        else:
            try:
                await self._writer.run_once(lambda: recorder.keep(pieces))
            except errors.VolumeFullError:  # keep as many as fit
                for number, data in pieces.items():
                    await self._keep({number: data})
                return
        for block in pieces.values():
            self._pool.give(block)
        self._attempts.progress()
        self._on_pieces()


def _is_capped(answer: Answer, recorder: Recorder, segment: Segment) -> bool:
    """True if the origin announced and sent a shorter range than requested, and the copy has really grown by it."""
    announced = answer.provenance is None and answer.end == answer.offset + answer.body.received
    reached = segment.next * recorder.meta.piece_size + recorder.part_size(segment.next)
    return announced and reached - answer.offset >= min(PART, recorder.meta.piece_size)
