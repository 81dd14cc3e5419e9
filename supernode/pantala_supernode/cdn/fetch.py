"""One try to complete one copy from its origin."""

from __future__ import annotations

import random
from collections.abc import Callable

from pantala_pieces.errors import StoreFullError
from pantala_pieces.file import Meta, PieceFile
from pantala_pieces.store import PieceStore
from pantala_protocol import digest, ranges
from pantala_protocol.digest import Digest
from pantala_protocol.geometry import PieceSizeRule
from pantala_protocol.redaction import RedactedURL
from pantala_supernode import errors
from pantala_supernode.cdn import content
from pantala_supernode.cdn.attempts import Attempts
from pantala_supernode.cdn.intake import Intake, Limiter
from pantala_supernode.cdn.recorder import Recorder
from pantala_supernode.cdn.room import Room
from pantala_supernode.origin.source import Answer, Provenance, Resume, SourceReader
from pantala_supernode.tasks.copy import FetchOrder

_CHANGED = errors.SourceChangedError.reason.action
_INTERRUPTED = errors.SourceInterruptedError.reason.action
_LENGTH = errors.LengthMismatchError.reason.action
_CUTS = 3
"""Cut so many times at the same byte, a body is shorter than announced and not unlucky."""


class Fetch:
    """One try. It ends with the whole on the volume, or raises :class:`pantala_supernode.errors.SupernodeError`."""

    def __init__(
        self,
        order: FetchOrder,
        history: Attempts,
        *,
        store: PieceStore,
        source: SourceReader,
        room: Room,
        rng: random.Random,
        wall: Callable[[], float],
        limiter: Limiter | None,
        piece_size: PieceSizeRule,
        on_bytes: Callable[[int], None],
        on_pieces: Callable[[], None],
    ) -> None:
        self._order = order
        self._history = history
        self._store = store
        self._source = source
        self._room = room
        self._rng = rng
        self._wall = wall
        self._piece_size = piece_size
        self._on_pieces = on_pieces
        self._shown = RedactedURL(order.source.url)
        self._expected = digest.parse_checksum(order.source.digest) if order.source.digest else None
        self._intake = Intake(self._shown, history, room=room, limiter=limiter, on_bytes=on_bytes, on_pieces=on_pieces)

    async def run(self) -> None:
        """Read what is missing, in as few requests as there are gaps, then check and keep the whole."""
        try:
            await self._lose()
            if self._history.doubted:
                await self._ask()
            while (gap := self._gap()) is not None:
                await self._room.await_need(self._shown)
                await self._read(*gap)
                await self._lose()
            if not self._is_whole():
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
            await self._room.run(lambda: recorder.lose(lost))
        self._history.lost &= ~lost

    def _is_whole(self) -> bool:
        return self._history.recorder is not None and bool(self._history.recorder.meta.digest)

    async def _ask(self) -> None:
        """Ask the origin whether its content is still that of the copy. If not, its answer is the new one, and read."""
        recorder = self._history.recorder
        if recorder is None:
            return
        meta = recorder.meta
        resume = Resume(0, None, meta.etag or meta.last_modified, meta.generation, complete=True)
        async with self._source.open(self._order.source, resume) as answer:
            if content.same(answer, meta):
                await self._room.run(lambda: recorder.confirm(self._wall(), answer.lifetime))
                self._history.doubted = False
            else:
                other, _ = await self._adopt(answer, None)
                await self._intake.take_in(answer, other, 0, None)

    def _gap(self) -> tuple[int, int | None] | None:
        """The first bytes that are missing, ``(start, end)``; end ``None``: the rest of the file."""
        recorder = self._history.recorder
        if self._intake.length is not None:
            return None
        if recorder is None:
            return 0, None
        size, missing = recorder.meta.piece_size, recorder.missing
        if missing is None:
            first_gap = (~recorder.have & (recorder.have + 1)).bit_length() - 1
            return first_gap * size, None
        runs = ranges.runs(missing & ~sum(1 << number for number in self._intake.last))
        for first, last in runs:
            return first * size, None if last + 1 == recorder.total else (last + 1) * size
        return None

    async def _read(self, start: int, end: int | None) -> None:
        resume = self._resume(start, end)
        async with self._source.open(self._order.source, resume) as answer:
            recorder, continued = await self._adopt(answer, resume)
            if not continued:
                start, end = 0, None
            if answer.lineage is not None and answer.lineage.end is not None:
                end = answer.lineage.end
            await self._intake.take_in(answer, recorder, start, end)

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
            if content.same(answer, recorder.meta):
                self._history.stitched |= not resume.validator
                return recorder, True
            may_restart = not self._history.budget.spent
            content.check_other(answer, resume, recorder.meta, self._shown, may_restart=may_restart)
            if resume.validator:
                self._history.budget.restarts += 1
                self._history.cut_at = -1  # where another content was cut says nothing of this one
        content.check_end_is_seen(answer, self._shown, digest_known=self._expected is not None)
        return await self._begin(answer), False

    async def _join(self, answer: Answer, lineage: Provenance) -> tuple[Recorder, bool]:
        """Go on with the copy of another supernode, or begin with it if ours is of another generation."""
        recorder, history = self._history.recorder, self._history
        continued = recorder is not None and recorder.meta.generation == lineage.generation
        if recorder is None or not continued:
            recorder = await self._begin(answer)
        history.lineage = lineage
        history.origin_bytes = max(history.origin_bytes, lineage.origin_bytes)
        return recorder, continued

    async def _begin(self, answer: Answer) -> Recorder:
        lineage = answer.lineage
        meta = Meta(
            task_id=self._order.task_id,
            generation=lineage.generation if lineage is not None else f"{self._rng.getrandbits(64):016x}",
            piece_size=lineage.piece_size if lineage is not None else self._piece_size(answer.length),
            length=answer.length,
            etag=answer.etag,
            last_modified=answer.last_modified,
            confirmed=self._wall() if lineage is None else 0.0,
            lifetime=answer.lifetime,
        )
        history = self._history
        history.recorder, history.lineage, history.stitched, history.lost = None, None, False, 0
        history.doubted = False
        self._intake.begin()
        self._on_pieces()  # the former content's pieces are not there any more
        file = await self._room.run(lambda: _create(self._store, meta), answer.length or meta.piece_size)
        history.recorder = Recorder(file, verified=True)
        return history.recorder

    def _judged(self, error: errors.SourceInterruptedError) -> errors.SourceError:
        """A body that ends time and again at the same byte is not cut by chance. Its pieces are kept all the same."""
        if self._intake.cut_at is None or self._history.cut(self._intake.cut_at) < _CUTS:
            return error
        recorder = self._history.recorder
        return errors.LengthMismatchError(
            f"{self._shown} ended {_CUTS} times at byte {self._intake.cut_at}, though it announced "
            f"{recorder.meta.length if recorder and recorder.meta.length is not None else 'more'}. {_LENGTH}"
        )

    async def _conclude(self) -> None:
        recorder = self._history.recorder
        length = self._intake.length if recorder is None or recorder.meta.length is None else recorder.meta.length
        if recorder is None or length is None:
            raise RuntimeError("nothing was read")
        try:
            await self._room.run(
                lambda: recorder.conclude(self._intake.last, length, self._whole(), self._history.origin_bytes),
                sum(map(len, self._intake.last.values())),
            )
        except errors.DigestMismatchError:
            stitched, lineage, history = self._history.stitched, self._history.lineage, self._history
            await self._drop()
            if lineage is not None:
                lineage.on_wrong()
                raise errors.ReplicaError(
                    f"What another supernode gave of {self._shown} is not right. It is fetched anew."
                ) from None
            if not self._intake.framed and length != history.cut_at:
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

    async def _drop(self) -> None:
        """Throw the pieces away: they are of no content that is wanted."""
        self._history.recorder = self._history.lineage = None
        self._history.stitched, self._history.lost = False, 0
        self._on_pieces()  # nobody may count on them from here on
        await self._room.run(lambda: self._store.delete(self._order.task_id))


def _create(store: PieceStore, meta: Meta) -> PieceFile:
    file = store.create(meta)
    try:
        file.reserve()
    except StoreFullError:
        store.delete(meta.task_id)
        raise
    return file
