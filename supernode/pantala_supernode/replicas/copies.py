"""Serves reports about this supernode's copies, and their bytes, to other replicas. Fetches files for them."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from pantala_pieces.errors import PieceMissingError, StoreError
from pantala_pieces.file import PieceFile
from pantala_pieces.store import PieceStore
from pantala_process.backoff import pause_until
from pantala_protocol import ranges
from pantala_protocol.statement import Member
from pantala_protocol.task_id import TaskID
from pantala_supernode.errors import ConflictError, NotFoundError, RequestError
from pantala_supernode.replicas.client import SourceRequest
from pantala_supernode.replicas.decision import CopyReport, Stage
from pantala_supernode.replicas.membership import ReplicaSet
from pantala_supernode.tasks.copy import FileSource
from pantala_supernode.tasks.manager import TaskManager
from pantala_supernode.tasks.task import Lease, LeaseHolder

_LEASE = 60.0
"""Seconds of a lease for another replica. That replica repeats its request while it needs the file."""
_LOOK = 1.0
"""A reader that waits for a piece checks after this many seconds whether the piece can still arrive."""


class MisdirectedError(RequestError):
    """Another replica owns the task."""

    status = 421
    name = "Misdirected"

    def __init__(self, task_id: str, owner: Member) -> None:
        super().__init__(f"Task {task_id} belongs to replica {owner.name}. Send the request to {owner.url}.")
        self.owner = owner


class CopyEndedError(Exception):
    """The bytes of a copy end too early, because they do not arrive, are damaged, or were removed."""


@dataclass(slots=True, eq=False, repr=False)
class CopyServer:
    """Answers the requests of other replicas."""

    leases: LeaseHolder
    tasks: TaskManager
    store: PieceStore
    replicas: ReplicaSet
    stage: Callable[[TaskID], Stage]
    accuse: Callable[[TaskID, int], None]
    """Called with a damaged piece."""
    clock: Callable[[], float]
    """Returns monotonic seconds."""
    readers: int = 0
    """How many requests of other replicas read a copy now."""
    _news: dict[str, asyncio.Event] = field(default_factory=dict)

    def on_task_changed(self, task_id: str) -> None:
        news = self._news.pop(task_id, None)
        if news is not None:
            news.set()

    def report(self, task_id: str) -> CopyReport:
        """What this supernode has of a task. Raises :class:`NotFoundError` for an unknown task."""
        task = self.tasks.known(task_id)
        copy, file = task.copy, self._file(task_id, task.copy.generation)
        stage = self.stage(task.id)
        if file is None:
            return CopyReport(task.id, stage, failure=copy.failure)
        return CopyReport(
            task.id,
            stage,
            whole=task.complete,
            generation=copy.generation,
            piece_size=copy.piece_size,
            length=copy.length,
            etag=file.meta.etag,
            last_modified=file.meta.last_modified,
            digest=copy.digest,
            cached=ranges.render(copy.cached),
            origin_bytes=copy.origin_bytes,
            failure=copy.failure,
            origins=copy.origins,
        )

    def want(self, task_id: str, request: SourceRequest) -> CopyReport:
        """Fetch a file for another replica. Returns what this supernode has of it.

        Raises :class:`MisdirectedError` if another replica owns the task, :class:`ValueError` for an invalid ID.
        """
        owner = self.replicas.other_owner(task_id)
        if owner is not None:
            raise MisdirectedError(task_id, owner)
        task, attempt = self.tasks.get(task_id), request.attempt
        leased = task.leased if task is not None else None
        if task is not None and task.lease is not None and not task.copy.given_up:
            attempt = task.lease.attempt
        source = FileSource(
            request.url,
            request.headers,
            request.digest or None,
            attempt,
            pod_identity=request.pod_identity,
            tenants=frozenset(request.tenants),
            origin=request.origin,
        )
        if leased is not None and leased.origin != source.origin and attempt != request.attempt:
            source = leased  # stay with this repository, because a change would discard the pieces
        self.leases.lease(task_id, Lease(source, self.clock() + _LEASE))
        return self.report(task_id)

    async def content(self, task_id: str, generation: str, start: int, end: int | None) -> AsyncGenerator[bytes, None]:
        """The bytes of a copy from ``start`` on, up to ``end`` if given, as they arrive. Each piece is verified.

        Raises :class:`CopyEndedError` if a missing byte does not arrive, or the copy is removed.
        """
        self.readers += 1
        try:
            while end is None or start < end:
                task, file = self.tasks.get(task_id), self._file(task_id, generation)
                if task is None or file is None:
                    raise CopyEndedError("The copy was removed or replaced.")
                at_end, number = start == task.copy.length, start // file.meta.piece_size
                if at_end and task.complete:
                    return
                if not at_end and task.copy.cached >> number & 1:
                    piece = await self._piece(file, number)
                    offset = number * file.meta.piece_size
                    yield piece[start - offset : None if end is None else end - offset]
                    start = offset + len(piece)
                elif end is not None or self.stage(task.id) is not Stage.READING:
                    raise CopyEndedError("The next piece is missing, and this supernode does not read the origin.")
                else:
                    await self._await_news(task_id)
        finally:
            self.readers -= 1

    def check(self, task_id: str, generation: str, start: int, end: int | None) -> int | None:
        """How many bytes :meth:`content` yields. ``None``: not known yet.

        Raises :class:`NotFoundError` if the copy has another generation, and :class:`ConflictError` if bytes of the
        range are missing and will not arrive.
        """
        report = self.report(task_id)
        if not report.generation or report.generation != generation:
            raise NotFoundError(f"This supernode does not have generation {generation[:64]!r} of task {task_id}.")
        if start > (report.length or start) or (end is not None and not self._holds(task_id, start, end)):
            raise ConflictError(f"This supernode does not have the requested bytes of task {task_id}.")
        if end is not None:
            return end - start
        if not report.whole and report.stage is not Stage.READING:
            raise ConflictError(f"This supernode has only a part of task {task_id}, and is not downloading the rest.")
        return report.length - start if report.length is not None else None

    def _file(self, task_id: str, generation: str) -> PieceFile | None:
        """The file with the pieces of a task. ``None``: the task is unknown, or its pieces have another generation."""
        task, file = self.tasks.get(task_id), self.store.get(task_id)
        if task is None or file is None or not generation:
            return None
        return file if task.copy.generation == file.meta.generation == generation else None

    def _holds(self, task_id: str, start: int, end: int) -> bool:
        task = self.tasks.known(task_id)
        if not 0 <= start < end <= (task.copy.length or 0):
            return False
        size = task.copy.piece_size
        return all(task.copy.cached >> number & 1 for number in range(start // size, (end - 1) // size + 1))

    async def _piece(self, file: PieceFile, number: int) -> bytes:
        try:
            piece = await asyncio.to_thread(file.read_verified, number)
        except (StoreError, PieceMissingError) as error:  # it may have been forgotten a moment ago
            raise CopyEndedError(str(error)) from error
        if piece is None:
            self.accuse(TaskID(file.meta.task_id), number)
            raise CopyEndedError(f"Piece {number} is damaged on this supernode's volume. It is fetched again.")
        return piece

    async def _await_news(self, task_id: str) -> None:
        await pause_until(self._news.setdefault(task_id, asyncio.Event()), _LOOK)
