"""The pieces on this node's disk.

The threads that receive pieces write them. One more thread creates, completes and deletes files, so a slow disk does
not block the process. Other threads read whole files, after a start and before a publication.
"""

import asyncio
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from msgspec import structs

from pantala_peer.errors import FileMismatchError, RotError
from pantala_pieces.errors import PieceMissingError, StoreError, store_errors
from pantala_pieces.file import Meta, Piece, PieceFile
from pantala_pieces.store import PieceStore
from pantala_protocol import digest, ranges
from pantala_protocol.geometry import Geometry
from pantala_protocol.sync import Assignment, HeldPieces, PieceWork

T = TypeVar("T")


class PieceCache:
    """Stores verified pieces. Methods raise :class:`StoreError` if the disk fails.

    Pieces are written without fsync until the file is published. So :meth:`open` hashes all pieces again.
    """

    def __init__(self, root: Path) -> None:
        self._store = PieceStore(root, durable=False)
        self._disk = ThreadPoolExecutor(1, "disk")
        self._signatures: dict[str, tuple[int, int]] = {}
        self._contradicted: dict[str, str] = {}

    def total_bytes(self) -> int:
        """The bytes of all verified pieces."""
        return sum(file.held for file in self._store)

    def bytes_of(self, task_id: str) -> int:
        """The bytes of a task's verified pieces."""
        file = self._store.get(task_id)
        return 0 if file is None else file.held

    async def open(self) -> list[str]:
        """Verify the pieces of an earlier process. Returns the tasks whose published files have changed on the disk.

        The pieces of these tasks are dropped. A published file cannot be repaired while programs read it.
        """
        await self._on_disk(self._store.open)
        rotten = []
        for file in self._store:
            await asyncio.to_thread(_verify, file)
            if file.complete and not _all_there(file):
                rotten.append(file.meta.task_id)
                await self.drop(file.meta.task_id)
            elif file.complete:
                self._signatures[file.meta.task_id] = _signature(file)
        return rotten

    def lookup(self, task_id: str) -> PieceFile | None:
        return self._store.get(task_id)

    def tasks(self) -> set[str]:
        """The tasks with files on the disk, also those without pieces."""
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
        return file is not None and _all_there(file)

    def fits(self, assignment: Assignment) -> bool:
        """True if the task's pieces, if any, still exist and belong to the assigned content."""
        file = self._store.get(assignment.task_id)
        if file is None:
            return True
        if file.have and not file.path.exists():
            return False
        meta = file.meta
        if not assignment.generation or meta.length is None or assignment.length is None:
            return meta.generation == (assignment.generation or meta.generation)
        wanted = (assignment.generation, assignment.piece_size, assignment.length)
        return (meta.generation, meta.piece_size, meta.length) == wanted

    async def hold(self, assignment: Assignment) -> bool:
        """Prepare the task's data file and reserve its size. A file with other content is dropped first.

        False while the content is not known yet.
        """
        if not assignment.generation or assignment.piece_size <= 0:
            return False
        await self._on_disk(lambda: self._hold(assignment))
        return True

    async def capacity(self) -> int:
        """The size of the filesystem in bytes."""
        return (await self._on_disk(self._store.usage)).total

    async def lacking(self, assignment: Assignment) -> int:
        """The number of bytes that must become free before an assignment fits on the disk. At least 1."""
        return await self._on_disk(lambda: self._lacking(assignment))

    def put(self, work: PieceWork, piece: Piece) -> None:
        """Store a verified piece. Several threads may do so. Raises PieceMissingError if the task has changed."""
        file = self._store.get(work.task_id)
        if file is None or file.meta.generation != work.generation:
            raise PieceMissingError(f"The peer lost generation {work.generation} of the task {work.task_id}.")
        file.put([piece])

    async def check(self, assignment: Assignment) -> PieceFile | None:
        """Sync the task's whole file, verify its digest, and return it. ``None`` while pieces are missing.

        Raises :class:`FileMismatchError`. Then the pieces that are wrong on the disk are forgotten.
        """
        file = self._store.get(assignment.task_id)
        if file is None or assignment.length is None or file.meta.length != assignment.length or not _all_there(file):
            return None
        if file.meta.digest == assignment.digest and self._signatures.get(file.meta.task_id) == _signature(file):
            return file
        if self._contradicted.get(assignment.task_id) == assignment.digest:
            raise FileMismatchError(
                f"Each piece is right, but the file on the node does not have the digest {assignment.digest}. "
                "Check the supernode's log."
            )
        if not await asyncio.to_thread(_matches, file, assignment.digest):
            await self._find_rot(file, assignment.digest)
            raise FileMismatchError(
                f"The file on the node does not have the digest {assignment.digest}. Wrong pieces are fetched again."
            )
        await self._on_disk(lambda: self._complete(file, assignment.digest))
        return file

    async def drop(self, task_id: str) -> None:
        """Remove a task's pieces. Readers with an open file can continue."""
        self._signatures.pop(task_id, None)
        self._contradicted.pop(task_id, None)
        await self._on_disk(lambda: self._store.delete(task_id))

    def close(self) -> None:
        """End the thread and close the files."""
        self._disk.shutdown()
        self._store.close()

    async def _on_disk(self, operation: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, operation)

    async def _find_rot(self, file: PieceFile, expected: str) -> None:
        name = file.meta.task_id
        if file.complete:
            await self.drop(name)
            raise RotError("The published file was changed on the node's disk. The peer fetches it again.")
        await asyncio.to_thread(_verify, file)
        if _all_there(file):
            self._contradicted[name] = expected

    # Called in the disk's thread

    def _hold(self, assignment: Assignment) -> None:
        file = self._store.get(assignment.task_id)
        if file is None:
            meta = Meta(assignment.task_id, assignment.generation, assignment.piece_size, assignment.length)
            file = self._store.create(meta)
        elif file.meta.length is None and assignment.length is not None:
            file.update(structs.replace(file.meta, length=assignment.length))
        if not file.complete:
            file.reserve()
            self._create_data(file)

    def _lacking(self, assignment: Assignment) -> int:
        file = self._store.get(assignment.task_id)
        wanted = (assignment.length or 0) - (file.allocated if file is not None else 0)
        try:
            return max(1, wanted - self._store.usage().free)
        except StoreError:
            return max(1, wanted)

    def _create_data(self, file: PieceFile) -> None:
        """Create the data file if it is missing. An empty task has no piece with which :meth:`put` would create it."""
        with store_errors(f"create {file.path}"):
            os.close(os.open(file.path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))

    def _complete(self, file: PieceFile, whole: str) -> None:
        file.close()  # nothing writes to it any more
        file.update(structs.replace(file.meta, digest=whole))
        self._signatures[file.meta.task_id] = _signature(file)


def _all_there(file: PieceFile) -> bool:
    return file.meta.length is not None and file.have == Geometry(file.meta.piece_size, file.meta.length).all


def _verify(file: PieceFile) -> None:
    try:
        file.verify()
    finally:
        file.close()


def _matches(file: PieceFile, expected: str) -> bool:
    """Sync the file, and compare its digest."""
    wanted = digest.parse(expected)
    with store_errors(f"read {file.path}"), file.path.open("rb") as data:
        if os.fstat(data.fileno()).st_size != file.meta.length:
            return False
        os.fsync(data.fileno())
        return hashlib.file_digest(data, lambda: digest.new(wanted.algorithm)).hexdigest() == wanted.hex


def _signature(file: PieceFile) -> tuple[int, int]:
    """Size and modification time: they change if a program writes to the file through its published path."""
    with store_errors(f"read the state of {file.path}"):
        status = file.path.stat()
    return status.st_size, status.st_mtime_ns
