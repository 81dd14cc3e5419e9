"""The pieces on this node's disk.

The threads that receive pieces write them. Another thread creates, completes and deletes files, so a slow disk does not
block the event loop. Further threads verify the pieces after a start, and sync whole files.
"""

import asyncio
import errno
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from weakref import WeakKeyDictionary

import structlog
from msgspec import structs

from pantala_peer.cache.evidence import Evidence
from pantala_peer.errors import FileMismatchError, RotError
from pantala_pieces.descriptor import opened
from pantala_pieces.errors import DENIED, LOST, PieceMissingError, StoreError, StoreFullError
from pantala_pieces.file import Piece, PieceFile
from pantala_pieces.meta import Meta
from pantala_pieces.scrub import ScrubCandidate
from pantala_pieces.store import PieceStore
from pantala_pieces.usage import Usage
from pantala_pieces.verification import FileVerdict, Finding
from pantala_protocol import ranges
from pantala_protocol.sync import Assignment, HeldPieces, PieceWork

T = TypeVar("T")

log = structlog.get_logger()


class PieceCache:
    """Stores verified pieces. Methods raise :class:`StoreError` if the disk fails.

    Pieces are written without fsync until the file is published. So :meth:`open` hashes all pieces again. ``wall``
    returns seconds since the epoch.
    """

    def __init__(self, root: Path, *, headroom: float = 0.0, wall: Callable[[], float] = time.time) -> None:
        """``headroom``: the percentage of the disk that must stay free."""
        self._store = PieceStore(root, durable=False, headroom=headroom)
        self._disk = ThreadPoolExecutor(1, "disk")
        self._wall = wall
        self._evidence: WeakKeyDictionary[PieceFile, Evidence] = WeakKeyDictionary()
        self.unread: set[str] = set()
        """Tasks of an earlier process whose pieces are not verified yet. These pieces count as missing."""

    def total_bytes(self) -> int:
        """The bytes of all verified pieces."""
        return sum(file.held for file in self._store)

    def bytes_of(self, task_id: str) -> int:
        """The bytes of a task's verified pieces."""
        file = self._store.get(task_id)
        return 0 if file is None else file.held

    async def open(self) -> list[str]:
        """Verify the pieces of an earlier process. Returns the tasks whose published files have changed on the disk.

        A task that cannot be verified now stays in :attr:`unread`.
        """
        await self._on_disk(self._store.open)
        self.unread = self.tasks()
        rotten = []
        for name in sorted(self.unread):
            try:
                if not await self.verify(name):
                    rotten.append(name)
            except StoreError as error:
                log.warning("the pieces of a task cannot be read now; trying again later", task=name, error=str(error))
        return rotten

    async def verify(self, task_id: str) -> bool:
        """Hash all pieces of a task again. False: a published file has changed, or the disk has lost it.

        Drops the pieces of a changed file, because a published file cannot be repaired while programs read it. Also
        drops pieces that the disk has lost, or to which this process has no access. In the latter case, the published
        file may be right, and stays until its new copy is whole. After any other error, such as a read-only disk, the
        pieces stay. Then it raises :class:`StoreError`.
        """
        file = self._store.get(task_id)
        if file is None:
            return True
        published = file.complete or _is_linked(file)
        try:
            await self._verify(file)
            if not published or (file.whole and _is_readable(file)):
                self.unread.discard(task_id)
                return True
        except StoreError as error:
            if not error.lost:
                raise
            log.warning("the pieces of a task cannot be read; they are fetched again", task=task_id, error=str(error))
            published = published and not error.denied
        try:
            await self.drop(task_id)
        except StoreError as error:
            log.warning("the unusable pieces of a task cannot be removed from the disk", task=task_id, error=str(error))
        return not published

    def lookup(self, task_id: str) -> PieceFile | None:
        return self._store.get(task_id)

    def tasks(self) -> set[str]:
        """The tasks with files on the disk, including tasks without pieces."""
        return {file.meta.task_id for file in self._store}

    def inventory(self) -> dict[str, HeldPieces]:
        return {
            file.meta.task_id: HeldPieces(file.meta.generation, ranges.render(file.have))
            for file in self._store
            if file.have
        }

    def has(self, task_id: str, generation: str, piece: int) -> bool:
        file = self._store.get(task_id)
        return file is not None and file.meta.generation == generation and bool(file.have >> piece & 1)

    def is_whole(self, task_id: str) -> bool:
        """True if all pieces of a task are held."""
        file = self._store.get(task_id)
        return file is not None and file.whole

    def fits(self, assignment: Assignment) -> bool:
        """True if the task's pieces, if any, are still readable and belong to the assigned content."""
        file = self._store.get(assignment.task_id)
        if file is None:
            return True
        if (file.have or file.complete) and not _is_readable(file):  # an empty file has no pieces
            return False
        meta = file.meta
        if not assignment.generation or meta.length is None or assignment.length is None:
            return meta.generation == (assignment.generation or meta.generation)
        wanted = (assignment.generation, assignment.piece_size, assignment.length)
        return (meta.generation, meta.piece_size, meta.length) == wanted

    async def hold(self, assignment: Assignment) -> bool:
        """Create the task's data file if it is missing, and reserve its size.

        Returns False while the content is not known yet.
        """
        if not assignment.generation or assignment.piece_size <= 0:
            return False
        file = self._store.get(assignment.task_id)
        if file is None or not file.complete:  # a whole file needs no room
            await self._on_disk(lambda: self._hold(assignment))
        return True

    async def usage(self) -> Usage:
        """The room of the file system."""
        return await self._on_disk(self._store.usage)

    async def lacking(self, assignment: Assignment) -> int:
        """The number of bytes that must become free before an assignment fits on the disk. At least 1."""
        return await self._on_disk(lambda: self._lacking(assignment))

    def put(self, work: PieceWork, piece: Piece) -> None:
        """Store a verified piece. Any thread may do so. Raises :class:`PieceMissingError` if the task has changed."""
        file = self._store.get(work.task_id)
        if file is None or file.meta.generation != work.generation:
            raise PieceMissingError(f"The peer no longer has generation {work.generation} of the task {work.task_id}.")
        if not file.have >> piece.number & 1:
            self._known(file).running.feed(piece.number, piece.data)
        file.put([piece])

    async def check(self, assignment: Assignment) -> PieceFile | None:
        """The task's whole file, synced for publication. ``None``: pieces are missing.

        A blob's file is not synced. Raises :class:`RotError` if the file is wrong on the disk. Raises
        :class:`FileMismatchError` if each piece is right, but the whole file does not have the supernode's digest.
        """
        file = self._store.get(assignment.task_id)
        if file is None or assignment.length is None or file.meta.length != assignment.length or not file.whole:
            return None
        evidence = self._known(file)
        evidence.expected = assignment.digest
        found = evidence.whole(file)
        if found not in (None, assignment.digest):
            evidence.contradicted = assignment.digest
        elif found and not evidence.checked:
            evidence.checked = self._wall()
        if evidence.wrong is not None:
            raise RotError("The file was changed on the node's disk. The peer fetches the wrong pieces again.")
        if not evidence.in_service:
            raise FileMismatchError(
                f"Each piece is right, but the file on the node does not have the digest {assignment.digest}. "
                "Check the supernode's log."
            )
        if file.meta.digest == assignment.digest:
            evidence.look(file)
        elif assignment.deliveries:
            await self._complete(file, evidence)
        return file

    def candidates(self) -> Iterator[ScrubCandidate]:
        """The whole files that the scrub may verify."""
        for file in self._store:
            evidence = self._evidence.get(file)
            if evidence is not None and self.serves(file, evidence.expected):
                checked = max(evidence.checked, file.meta.checked)
                yield ScrubCandidate(file, evidence.expected, checked, evidence.changed)

    def serves(self, file: PieceFile, digest: str) -> bool:
        """True while a whole file is in service with this digest."""
        evidence = self._evidence.get(file)
        if evidence is None or self._store.get(file.meta.task_id) is not file or not file.whole:
            return False
        return bool(digest) and evidence.expected == digest and evidence.in_service

    async def conclude(self, file: PieceFile, digest: str, finding: Finding) -> None:
        """Record the scrub's finding. After that, :meth:`check` raises an error if the file is wrong."""
        if not self.serves(file, digest):
            return
        evidence = self._known(file)
        evidence.take(digest, finding)
        if finding.verdict is FileVerdict.RIGHT:
            evidence.checked, evidence.changed = self._wall(), False
            await self._complete(file, evidence)

    def is_due(self, task_id: str) -> bool:
        """True if the scrub has never verified a whole file, or the file changed since then."""
        file = self._store.get(task_id)
        evidence = self._evidence.get(file) if file is not None else None
        if file is None or evidence is None:
            return False
        return evidence.changed or not (evidence.checked or file.meta.checked)

    async def repair(self, task_id: str) -> None:
        """Forget the wrong pieces that the scrub found. A data file that was published is never written again.

        Instead, the good pieces of a complete file are copied. If the copy does not fit, all pieces are dropped.
        """
        file = self._store.get(task_id)
        evidence = self._evidence.get(file) if file is not None else None
        if file is None or evidence is None or evidence.wrong is None:
            return
        file.forget(evidence.wrong)
        try:
            if file.complete or not evidence.wrong:
                await asyncio.to_thread(self._renew, file)
        except StoreError as error:
            log.warning("cannot copy a damaged file; fetching the whole file again", task=task_id, error=str(error))
            await self.drop(task_id)
        else:
            self._start(file)

    async def drop(self, task_id: str) -> None:
        """Remove a task's pieces. Readers with an open file can continue."""
        self.unread.discard(task_id)
        await self._on_disk(lambda: self._store.delete(task_id))

    def close(self) -> None:
        """End the thread and close the files."""
        self._disk.shutdown()
        self._store.close()

    async def _on_disk(self, operation: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, operation)

    def _known(self, file: PieceFile) -> Evidence:
        return self._evidence.get(file) or self._evidence.setdefault(file, Evidence())

    async def _verify(self, file: PieceFile) -> None:
        """Hash all pieces again."""
        evidence = self._start(file)
        feed = None if file.meta.checked else evidence.running.feed
        try:
            await asyncio.to_thread(file.verify, feed)
        finally:
            file.close()
        if file.complete and file.whole and _is_readable(file):
            evidence.look(file)

    def _start(self, file: PieceFile) -> Evidence:
        """Forget what is known about a file, except its verified pieces."""
        evidence = self._evidence[file] = Evidence(expected=file.meta.digest)
        return evidence

    async def _complete(self, file: PieceFile, evidence: Evidence) -> None:
        """Sync a whole file, and record its digest. After that, the peer never writes to it."""
        try:
            if not file.complete:
                await asyncio.to_thread(file.sync)
        except StoreError:
            await self._verify(file)  # the disk may have lost any piece
            raise
        await self._on_disk(lambda: self._record(file, evidence))

    # Called in the disk's thread

    def _hold(self, assignment: Assignment) -> None:
        file, length = self._store.get(assignment.task_id), assignment.length
        try:
            if file is None:
                meta = Meta(assignment.task_id, assignment.generation, assignment.piece_size, length)
                file = self._store.create(meta)
            elif file.meta.length is None and length is not None:
                file.update(structs.replace(file.meta, length=length))
        except ValueError as error:  # its sizes contradict each other
            raise StoreError(f"cannot store the task {assignment.task_id}: {error}") from error
        if not file.complete:
            try:
                file.reserve()
            except StoreFullError:
                if not file.have:  # a disk may have reserved a part, up to its last byte
                    self._store.delete(assignment.task_id)
                raise

    def _lacking(self, assignment: Assignment) -> int:
        file = self._store.get(assignment.task_id)
        wanted = (assignment.length or 0) - (file.allocated if file is not None else 0)
        try:
            return max(1, wanted - self._store.usage().spare)
        except StoreError:
            return max(1, wanted)

    def _record(self, file: PieceFile, evidence: Evidence) -> None:
        if self._store.get(file.meta.task_id) is file:
            file.update(structs.replace(file.meta, digest=evidence.expected, checked=evidence.checked))
            file.close()  # after the update; before it, an upload would open the file for writing
            evidence.look(file)

    def _renew(self, file: PieceFile) -> None:
        self._store.usage().check(file.meta.length or 0, f"copy {file.path}")
        file.renew()


def _is_linked(file: PieceFile) -> bool:
    """True if the data file is published. After a crash of the machine, the metadata may not show this."""
    try:
        return file.path.stat().st_nlink > 1
    except OSError:
        return False


def _is_readable(file: PieceFile) -> bool:
    """False if the data file is lost or denied. After any other error, nothing is known."""
    try:
        with opened(file.path):
            return True
    except OSError as error:
        return error.errno not in LOST | DENIED | {errno.ELOOP, errno.ENOTDIR}
