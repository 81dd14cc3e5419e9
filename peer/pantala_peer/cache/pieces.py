"""The pieces on this node: what the assignments say is held, and what is held is right.

The disk is written by one thread, so that a slow disk never stops the process and no two writers meet. Whole files are
read (after a start, before a publication) in threads beside it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from msgspec import structs

from pantala_peer.errors import CorruptError, FileMismatchError, RotError
from pantala_pieces.errors import PieceMissingError, StoreError, from_os_error
from pantala_pieces.file import Meta, Piece, PieceFile
from pantala_pieces.store import PieceStore
from pantala_protocol import digest, ranges
from pantala_protocol.geometry import Geometry
from pantala_protocol.sync import Assignment, Held, Work

T = TypeVar("T")


class PieceCache:
    """The piece store as a peer uses it. Raises :class:`StoreError` where the disk refuses.

    Nothing is synced until a file is published: after a crash every piece is hashed before it counts.
    """

    def __init__(self, root: Path) -> None:
        self._store = PieceStore(root, durable=False)
        self._disk = ThreadPoolExecutor(1, "disk")
        self._bytes: dict[str, int] = {}
        self._signatures: dict[str, tuple[int, int]] = {}
        self._contradicted: dict[str, str] = {}

    def total_bytes(self) -> int:
        """The bytes of all verified pieces."""
        return sum(self._bytes.values())

    def bytes_of(self, task_id: str) -> int:
        """The bytes of a task's verified pieces."""
        return self._bytes.get(task_id, 0)

    async def open(self) -> list[str]:
        """Find what an earlier process left and hash it. Tells the tasks that were whole and are not any more.

        Those are dropped, for their file is published and may not be repaired under its readers.
        """
        await self._on_disk(self._store.open)
        rotten = []
        for file in self._store:
            await asyncio.to_thread(_verify, file)
            if file.complete and not _all_there(file):
                rotten.append(file.meta.task_id)
                await self.drop(file.meta.task_id)
            else:
                self._count(file)
        return rotten

    def lookup(self, task_id: str) -> PieceFile | None:
        """A task's file, for the piece server."""
        return self._store.get(task_id)

    def tasks(self) -> set[str]:
        """The tasks that something is held of."""
        return {file.meta.task_id for file in self._store}

    def inventory(self) -> dict[str, Held]:
        """All that is held."""
        return {
            file.meta.task_id: Held(file.meta.generation, ranges.render(file.have)) for file in self._store if file.have
        }

    def has(self, task_id: str, generation: str, piece: int) -> bool:
        """Whether a piece is held."""
        file = self._store.get(task_id)
        return file is not None and file.meta.generation == generation and bool(file.have >> piece & 1)

    def is_whole(self, task_id: str) -> bool:
        """Whether all pieces of a task are held."""
        file = self._store.get(task_id)
        return file is not None and _all_there(file)

    def fits(self, assignment: Assignment) -> bool:
        """Whether what is there, if anything, is still there and belongs to the content that is assigned."""
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
        """Be ready to keep the assignment's pieces, with room for all. What does not fit must be dropped before.

        False while its content is not known yet.
        """
        if not assignment.generation or assignment.piece_size <= 0:
            return False
        await self._on_disk(lambda: self._hold(assignment))
        return True

    async def capacity(self) -> int:
        """The size of the filesystem in bytes."""
        return (await self._on_disk(self._store.usage)).total

    async def lacking(self, assignment: Assignment) -> int:
        """How many bytes must come free for an assignment that did not fit: 1 at least."""
        return await self._on_disk(lambda: self._lacking(assignment))

    async def put(self, work: Work, data: memoryview) -> None:
        """Verify a piece and keep it. Raises :class:`CorruptError`; :class:`PieceMissingError` if it is not wanted."""
        await self._on_disk(lambda: self._put(work, data))

    async def check(self, assignment: Assignment) -> PieceFile | None:
        """The task's file if it is whole, has the assigned digest and is durable; ``None`` while pieces are missing.

        Raises :class:`FileMismatchError`; pieces that are wrong on the disk are then forgotten.
        """
        file = self._store.get(assignment.task_id)
        if file is None or assignment.length is None or file.meta.length != assignment.length or not _all_there(file):
            return None
        if file.meta.digest == assignment.digest and self._signatures.get(file.meta.task_id) == _signature(file):
            return file
        if self._contradicted.get(assignment.task_id) == assignment.digest:
            raise FileMismatchError(f"each piece is right and the whole is not {assignment.digest}; see the supernode")
        if not await asyncio.to_thread(_matches, file, assignment.digest):
            await self._find_rot(file, assignment.digest)
            raise FileMismatchError(f"the whole is not {assignment.digest}; wrong pieces are fetched again")
        await self._on_disk(lambda: self._complete(file, assignment.digest))
        return file

    async def drop(self, task_id: str) -> None:
        """Remove a task's pieces. Those who read them can go on."""
        self._bytes.pop(task_id, None)
        self._signatures.pop(task_id, None)
        self._contradicted.pop(task_id, None)
        await self._on_disk(lambda: self._store.delete(task_id))

    def close(self) -> None:
        """End the disk's thread and give the files back."""
        self._disk.shutdown()
        self._store.close()

    async def _on_disk(self, operation: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, operation)

    async def _find_rot(self, file: PieceFile, expected: str) -> None:
        name = file.meta.task_id
        if file.complete:
            await self.drop(name)
            raise RotError("the published file was changed on the disk; it is fetched again")
        await asyncio.to_thread(_verify, file)
        self._count(file)
        if _all_there(file):
            self._contradicted[name] = expected

    # In the disk's thread

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
        """An empty file has no piece whose arrival would make it."""
        try:
            os.close(os.open(file.path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise from_os_error(error, f"create {file.path}") from error

    def _put(self, work: Work, data: memoryview) -> None:
        file = self._store.get(work.task_id)
        if file is None or file.meta.generation != work.generation:
            raise PieceMissingError(f"task {work.task_id} is not held in generation {work.generation} any more")
        found = hashlib.sha256(data).digest()
        if found.hex() != work.sha256:
            raise CorruptError(f"piece {work.piece} hashes to {found.hex()}, not to {work.sha256}")
        is_new = not file.have >> work.piece & 1
        file.put([Piece(work.piece, data, found)])
        if is_new:
            self._bytes[work.task_id] = self._bytes.get(work.task_id, 0) + len(data)

    def _complete(self, file: PieceFile, whole: str) -> None:
        file.close()  # nothing is written to it any more
        file.update(structs.replace(file.meta, digest=whole))
        self._signatures[file.meta.task_id] = _signature(file)

    def _count(self, file: PieceFile) -> None:
        self._bytes[file.meta.task_id] = sum(map(file.size, ranges.members(file.have)))
        if file.complete:
            self._signatures[file.meta.task_id] = _signature(file)


def _all_there(file: PieceFile) -> bool:
    return file.meta.length is not None and file.have == Geometry(file.meta.piece_size, file.meta.length).all


def _verify(file: PieceFile) -> None:
    try:
        file.verify()
    finally:
        file.close()


def _matches(file: PieceFile, expected: str) -> bool:
    """Whether the whole file has a digest; its bytes are durable then."""
    wanted = digest.parse(expected)
    try:
        with file.path.open("rb") as data:
            if os.fstat(data.fileno()).st_size != file.meta.length:
                return False
            os.fsync(data.fileno())
            return hashlib.file_digest(data, lambda: digest.new(wanted.algorithm)).hexdigest() == wanted.hex
    except OSError as error:
        raise from_os_error(error, f"read {file.path}") from error


def _signature(file: PieceFile) -> tuple[int, int]:
    """Changes when somebody writes to the file through its published name."""
    try:
        status = file.path.stat()
    except OSError as error:
        raise from_os_error(error, f"look at {file.path}") from error
    return status.st_size, status.st_mtime_ns
