"""Several threads put pieces on a disk that fails now and then."""

import contextlib
import errno
import os
import random
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pantala_pieces import journal
from pantala_pieces.errors import StoreError
from pantala_pieces.file import Piece, PieceFile
from pantala_pieces.meta import Meta
from pantala_pieces.store import PieceStore
from pantala_protocol import ranges, task_id
from tests.support.examples import examples
from tests.support.pieces import piece_of

TASK = task_id.compute("concurrent")
SIZE = 512
PIECES = 60
THREADS = 4


def piece(number: int) -> Piece:
    return piece_of(number, number.to_bytes(4, "big") * (SIZE // 4))


class FaultyDisk:
    """Fails some calls. A failed sync of data loses all bytes that were written since the last sync."""

    def __init__(self, chance: random.Random, rate: float) -> None:
        self.syncs = 0
        self._chance = chance
        self._rate = rate
        self._lock = threading.Lock()
        self._unsynced: set[tuple[int, int]] = set()
        """The unsynced writes to the data file: offset and size."""
        self._real = (os.pwrite, os.write, os.fdatasync)

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        with (
            mock.patch.object(os, "pwrite", self._pwrite),
            mock.patch.object(os, "write", self._write),
            mock.patch.object(os, "fdatasync", self._fdatasync),
        ):
            yield

    def heal(self) -> None:
        self._rate = 0.0

    def _fails(self) -> bool:
        with self._lock:
            return self._chance.random() < self._rate

    def _pwrite(self, fd: int, data: memoryview, offset: int) -> int:
        time.sleep(0)
        if self._fails():
            if self._fails():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            data = data[: len(data) // 2 + 1]
        with self._lock:
            written = self._real[0](fd, data, offset)
            if _is_data(fd):
                self._unsynced.add((offset, written))
        return written

    def _write(self, fd: int, data: memoryview) -> int:
        if self._fails():
            self._real[1](fd, data[: len(data) // 3])
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self._real[1](fd, data)

    def _fdatasync(self, fd: int) -> None:
        time.sleep(0.0005)
        if not _is_data(fd):
            if self._fails():
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return
        fails = self._fails()
        with self._lock:
            self.syncs += 1
            lost, self._unsynced = self._unsynced, set()
            for offset, size in lost if fails else ():
                self._real[0](fd, bytes(size), offset)
        if fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def _is_data(fd: int) -> bool:
    return Path(f"/proc/self/fd/{fd}").readlink().name == "data"


def in_threads(file: PieceFile, batches: Sequence[Sequence[int]]) -> tuple[set[int], set[int]]:
    """Put all batches, and return the pieces of those that succeeded, and of those that failed."""
    left, put, failed, bugs = list(batches), set[int](), set[int](), list[BaseException]()

    def work() -> None:
        with contextlib.suppress(IndexError):
            while True:
                batch = left.pop()
                try:
                    file.put([piece(number) for number in batch])
                except StoreError:
                    failed.update(batch)
                except BaseException as bug:
                    bugs.append(bug)
                    raise
                else:
                    put.update(batch)

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == bugs
    return put, failed


def check(file: PieceFile, put: set[int], *, lost: bool = False) -> None:
    """Compare the file with its journal, and with what the next process finds. ``lost``: failed pieces may be gone."""
    held = set(ranges.members(file.have))
    assert put <= held
    assert held == set(file._records)
    assert file.held == len(held) * SIZE
    content = (file.directory / "journal").read_bytes() if held else b""
    records = list(journal.decode(content))
    assert len(records) * journal.RECORD_SIZE + journal.RECORD_SIZE > len(content)
    assert held <= {record.piece for record in records}
    (again,) = PieceStore(file.directory.parent.parent, durable=False).open()
    found = set(ranges.members(again.verify()))
    assert put <= found
    assert lost or held <= found
    again.close()


@settings(max_examples=examples(40), deadline=None)
@given(seed=st.integers(min_value=0, max_value=1 << 32), durable=st.booleans(), rate=st.sampled_from([0.0, 0.02, 0.2]))
def test_have_records_and_journal_agree(seed: int, durable: bool, rate: float) -> None:
    chance = random.Random(seed)
    numbers = chance.sample(range(PIECES), PIECES)
    batches = [numbers[start : start + 3] for start in range(0, PIECES, 3)]
    disk = FaultyDisk(chance, rate)
    with tempfile.TemporaryDirectory() as root:
        file = PieceStore(Path(root), durable=durable).create(Meta(TASK, "g", SIZE, PIECES * SIZE))
        with disk.installed():
            put, failed = in_threads(file, batches)
            assert put.isdisjoint(failed)
            assert put | failed == set(numbers)
            check(file, put)
            disk.heal()
            again, none = in_threads(file, [sorted(failed)] if failed else [])
            assert (failed, set()) == (again, none)
        check(file, set(numbers))
        file.close()


def test_threads_share_one_sync(tmp_path: Path) -> None:
    file = PieceStore(tmp_path, durable=True).create(Meta(TASK, "g", SIZE, PIECES * SIZE))
    disk, real = FaultyDisk(random.Random(1), 0.0), os.fdatasync

    def slow(fd: int) -> None:
        time.sleep(0.02)
        disk.syncs += _is_data(fd)
        real(fd)

    with mock.patch.object(os, "fdatasync", slow):
        threads = [threading.Thread(target=file.put, args=([piece(number)],)) for number in range(PIECES)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    check(file, set(range(PIECES)))
    assert disk.syncs <= 6


def test_bytes_that_a_failed_sync_may_have_lost_are_an_error_of_their_caller(tmp_path: Path) -> None:
    """One thread has written its bytes and not its record, when the sync of another thread fails."""
    file = PieceStore(tmp_path, durable=True).create(Meta(TASK, "g", SIZE, PIECES * SIZE))
    slow = file._commits.begin()
    with mock.patch.object(os, "fdatasync", side_effect=OSError(errno.EIO, "lost")), pytest.raises(StoreError):
        file.put([piece(0)])
    with pytest.raises(OSError, match="lost"):
        file._commits.end(slow, [])
    file.put([piece(1)])
    check(file, {1}, lost=True)
