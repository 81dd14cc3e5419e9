"""One try to complete one copy from its source."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from pantala_protocol import digest
from pantala_protocol.digest import Digest
from pantala_protocol.reasons import Reason
from pantala_protocol.redaction import RedactedURL
from pantala_protocol.rules import quantity
from pantala_supernode import errors
from pantala_supernode.cdn.adoption import Adoption, is_foreign
from pantala_supernode.cdn.attempts import Attempts
from pantala_supernode.cdn.connections import Connections
from pantala_supernode.cdn.disk import VolumeWriter
from pantala_supernode.cdn.intake import Intake
from pantala_supernode.cdn.recorder import Recorder
from pantala_supernode.cdn.segments import ConnectionScale, Segment, SegmentPlan
from pantala_supernode.cdn.tools import FetchTools
from pantala_supernode.origin import freshness
from pantala_supernode.origin.source import Answer, Resume, SourceReader
from pantala_supernode.tasks.copy import FetchOrder

_CUTS = 3
"""After this many cuts at the same byte in a row, the file counts as shorter than the origin announced."""

_REFUSALS = (Reason.SOURCE_UNAUTHORIZED, Reason.SOURCE_FORBIDDEN)

_ALL = sys.maxsize
"""More pieces than any file has."""


class Fetch:
    """One try to complete a copy. It succeeds or raises :class:`pantala_supernode.errors.SupernodeError`."""

    def __init__(
        self,
        order: FetchOrder,
        attempts: Attempts,
        reader: SourceReader,
        writer: VolumeWriter,
        tools: FetchTools,
        *,
        on_bytes: Callable[[int], None],
        on_pieces: Callable[[], None],
    ) -> None:
        self._order = order
        self._attempts = attempts
        self._reader = reader
        self._writer = writer
        self._tools = tools
        self._on_pieces = on_pieces
        self._shown = RedactedURL(order.source.url)
        self._expected = digest.parse_checksum(order.source.digest) if order.source.digest else None
        self._budget = budget = tools.budget(order.task_id)
        self._intake = Intake(
            self._shown, attempts, writer=writer, budget=budget, on_bytes=on_bytes, on_pieces=on_pieces
        )
        self._adoption = Adoption(
            order, attempts, writer, tools, budget=budget, pinned=self._expected is not None, on_begin=self._begin
        )

    def received(self) -> int:
        return self._intake.received

    async def run(self) -> None:
        """Read each range of missing pieces with one request. Then check the digest of the file, and record it."""
        try:
            if self._is_useless():
                await self._discard()
            await self._forget_lost()
            if self._attempts.stale:
                await self._revalidate()
            while (gap := self._gap()) is not None:
                await self._writer.check_room()
                await self._read(gap)
                await self._forget_lost()
            recorder = self._attempts.recorder
            if recorder is None or not recorder.meta.digest:
                await self._conclude()
        except (errors.SourceChangedError, errors.LengthMismatchError):
            self._attempts.restart()
            await self._discard()
            raise
        except errors.VolumeFullError:
            await self._release_endless()
            raise
        except errors.QuotaExceededError:
            await self._discard()
            raise
        except errors.SourceInterruptedError as error:
            raise self._judged(error) from None
        except errors.SourceRangeError:
            self._attempts.budget.wrong_ranges += 1
            raise
        except errors.SourceError as error:
            raise self._judged_refusal(error) from None
        finally:
            self._intake.release()
            self._budget.close(self._attempts.size)

    def _is_useless(self) -> bool:
        """True if the pieces came from another repository, and no replica can send the missing pieces."""
        recorder = self._attempts.recorder
        if recorder is None or not is_foreign(recorder.meta, self._order):
            return False
        return self._attempts.provenance is None or not (recorder.have or recorder.parts)

    async def _release_endless(self) -> None:
        """Delete the pieces of a body of unknown length that filled the volume, because the body may never end."""
        recorder = self._attempts.recorder
        if recorder is None or recorder.meta.length is not None:
            return
        read = quantity.render(self._intake.received)
        await self._discard()
        raise errors.SourceUnusableError.with_action(
            f"{self._shown} sent {read}B without announcing a length, and filled the supernode's volume"
        ) from None

    async def _forget_lost(self) -> None:
        recorder, lost = self._attempts.recorder, self._attempts.lost
        if recorder is not None and lost:
            await self._writer.run(lambda: recorder.lose(lost))
        self._attempts.lost &= ~lost  # the recorder has removed them from the file

    async def _revalidate(self) -> None:
        """Ask the origin whether the copy is current. If it is not, read the new content from the same answer."""
        recorder = self._attempts.recorder
        if recorder is None:
            return
        meta = recorder.meta
        resume = Resume(0, None, meta.etag or meta.last_modified, meta.generation, complete=True)
        async with self._reader.open(self._order.source, resume) as answer:
            if freshness.same_content(answer, meta):
                await self._writer.run(lambda: recorder.confirm(self._tools.wall(), answer.lifetime))
                self._attempts.stale = False
            else:
                other, _ = await self._adoption.adopt(answer, None)
                async with self._intake.keeping():
                    await self._intake.take_in(answer, other, Segment(range(_ALL)))

    def _gap(self) -> range | None:
        """The first range of missing pieces. ``None``: all pieces have arrived.

        If the length of the file is not known, the range is longer than the file.
        """
        recorder = self._attempts.recorder
        if self._intake.length is not None:
            return None
        if recorder is None:
            return range(_ALL)
        missing = self._missing(recorder)
        if missing is None:
            return range((~recorder.have & (recorder.have + 1)).bit_length() - 1, _ALL)
        most = self._tools.division.pieces(recorder.meta.piece_size) if self._divisible(recorder) else _ALL
        first = SegmentPlan(missing, recorder.parts, most).take()
        return None if first is None else first.rest

    def _missing(self, recorder: Recorder) -> int | None:
        """The pieces that have not arrived, as a bit mask. ``None``: the length is not known."""
        last = sum(1 << number for number in self._intake.last)
        return None if recorder.missing is None else recorder.missing & ~last

    async def _read(self, gap: range) -> None:
        """Read a range of missing pieces. If the file is large and the origin serves ranges, read all ranges."""
        resume = self._resume(gap)
        async with AsyncExitStack() as opened, self._intake.keeping():
            answer = await opened.enter_async_context(self._reader.open(self._order.source, resume))
            recorder, continued = await self._adoption.adopt(answer, resume)
            lead = self._lead(answer, recorder, gap if continued else range(_ALL))
            reading = self._read_lead(opened, answer, recorder, lead)
            least = self._tools.division.least if resume is None else 0
            if answer.ranges and answer.provenance is None and self._divisible(recorder, least):
                await self._read_divided(recorder, lead, reading)
            else:
                await reading

    async def _read_divided(self, recorder: Recorder, lead: Segment, reading: Coroutine[Any, Any, None]) -> None:
        try:
            await self._connections(recorder, lead).run(lead, reading)
        except asyncio.CancelledError:
            # This task opened the first answer. So if the answer loses its place, this task is cancelled.
            if (me := asyncio.current_task()) is not None and me.cancelling():
                raise
            raise errors.SourceTimeoutError.with_action(
                f"{self._shown} sends the file too slowly. The supernode ended the request, because other files wait"
            ) from None

    async def _read_lead(self, opened: AsyncExitStack, answer: Answer, recorder: Recorder, lead: Segment) -> None:
        """Read the first answer. Then release its place, because another segment may wait for a place."""
        async with opened:
            await self._intake.take_in(answer, recorder, lead)

    def _lead(self, answer: Answer, recorder: Recorder, wanted: range) -> Segment:
        """The pieces that the first connection reads: the part of ``wanted`` that the answer contains."""
        stop = wanted.stop if recorder.total is None else min(wanted.stop, recorder.total)
        if answer.provenance is not None and answer.provenance.end is not None:
            stop = min(stop, -(-answer.provenance.end // recorder.meta.piece_size))
        return Segment(range(wanted.start, stop))

    def _divisible(self, recorder: Recorder, least: int = 0) -> bool:
        """True if at least ``least`` bytes are missing, and enough pieces for several connections.

        A digest or a validator must also show that the bytes from all connections belong together.
        """
        missing, meta = self._missing(recorder), recorder.meta
        certain = self._expected is not None or meta.validator
        if missing is None or not certain or self._attempts.ranges_fail:
            return False
        count = missing.bit_count()
        return count >= 2 * self._tools.division.pieces(meta.piece_size) and count * meta.piece_size >= least

    def _connections(self, recorder: Recorder, lead: Segment) -> Connections:
        missing, division = self._missing(recorder) or 0, self._tools.division
        further = missing & ~((1 << lead.stop) - (1 << lead.next))
        return Connections(
            SegmentPlan(further, recorder.parts, division.pieces(recorder.meta.piece_size)),
            ConnectionScale(self._tools.connections, division),
            partial(self._read_segment, recorder),
            size=missing.bit_count() * recorder.meta.piece_size,
            received=lambda: self._intake.received,
            spare=lambda: self._tools.gate.spare,
            window=division.window,
        )

    async def _read_segment(self, recorder: Recorder, segment: Segment) -> None:
        resume = self._request(recorder, segment.rest)
        async with self._reader.open(self._order.source, resume) as answer:
            freshness.check_continues(answer, resume, recorder.meta, self._shown, pinned=self._expected is not None)
            if not freshness.same_content(answer, recorder.meta):
                self._attempts.unverified_join = True
            await self._intake.take_in(answer, recorder, segment)

    def _resume(self, gap: range) -> Resume | None:
        """The request for a range of missing pieces. ``None``: request the whole file.

        A range is requested if a validator or the task's digest can show that it fits the stored pieces. With a digest,
        validators are ignored, because the servers of one origin may send different validators. An origin that cannot
        send ranges gets requests for the whole file only.
        """
        recorder = self._attempts.recorder
        if recorder is None or not (recorder.have or recorder.parts) or self._attempts.ranges_fail:
            return None
        resume = self._request(recorder, gap)
        return resume if resume.validator or self._expected is not None else None

    def _request(self, recorder: Recorder, pieces: range) -> Resume:
        meta, to_the_end = recorder.meta, recorder.total is None or pieces.stop >= recorder.total
        validator = "" if self._expected is not None else meta.validator
        end = None if to_the_end else pieces.stop * meta.piece_size
        start = pieces.start * meta.piece_size + recorder.part_size(pieces.start)
        if meta.length is None and start:
            start -= 1  # the file may end here, and the origin would refuse a range that begins at its end
        return Resume(start, end, validator, meta.generation)

    def _judged(self, error: errors.SourceInterruptedError) -> errors.SourceError:
        """The error for a cut body. After :data:`_CUTS` cuts at the same byte, the announced length counts as wrong."""
        if self._intake.cut_at is None or self._attempts.cut(self._intake.cut_at) < _CUTS:
            return error
        recorder = self._attempts.recorder
        return errors.LengthMismatchError.with_action(
            f"The answer from {self._shown} ended {_CUTS} times at byte {self._intake.cut_at}, but announced "
            f"{recorder.meta.length if recorder and recorder.meta.length is not None else 'more'} bytes"
        )

    def _judged_refusal(self, error: errors.SourceError) -> errors.SourceError:
        """The error for a failed request. A refusal in the middle of a file may pass, if bytes arrived before it.

        For example, a signed URL has expired, or the origin counts a connection that was closed just now.
        """
        recorder = self._attempts.recorder
        incomplete = recorder is not None and not recorder.meta.digest
        if error.reason not in _REFUSALS or not incomplete or not self._attempts.refused():
            return error
        return errors.SourceInterruptedError.with_action(
            f"{self._shown} refused the rest of the file, after it had sent a part"
        )

    async def _conclude(self) -> None:
        attempts, intake = self._attempts, self._intake
        recorder = attempts.recorder
        length = intake.length if recorder is None or recorder.meta.length is None else recorder.meta.length
        if recorder is None or length is None:
            raise RuntimeError("the origin was not read")
        try:
            await self._writer.run(
                lambda: recorder.conclude(intake.last, length, self._digest_of_whole(), attempts.origin_bytes),
                sum(map(len, intake.last.values())),
            )
        except errors.DigestMismatchError:
            unverified_join, provenance = attempts.unverified_join, attempts.provenance
            await self._discard()
            if provenance is not None:
                provenance.on_wrong()
                raise errors.ReplicaError.with_action(f"A replica's copy of {self._shown} has a wrong digest") from None
            if not intake.framed and attempts.cut(length) == 1:
                raise errors.SourceInterruptedError.with_action(
                    f"{self._shown} closed the connection at byte {length}, and the digest does not match"
                ) from None
            if unverified_join:
                raise errors.SourceChangedError.with_action(f"{self._shown} changed between two requests") from None
            raise
        self._on_pieces()

    def _digest_of_whole(self) -> Digest | None:
        """The expected digest of the file: from the order, or else from the replica that sent the pieces."""
        provenance = self._attempts.provenance
        given = provenance.digest if provenance is not None else ""
        return self._expected or (digest.parse(given) if given else None)

    def _begin(self) -> None:
        """Start with new content. The former content's pieces were deleted."""
        self._intake.begin()
        self._on_pieces()

    async def _discard(self) -> None:
        """Delete all pieces of the copy, because they are wrong or belong to former content."""
        self._attempts.discard()
        self._on_pieces()  # before the deletion, so that no peer relies on them
        await self._writer.run(lambda: self._writer.store.delete(self._order.task_id))
