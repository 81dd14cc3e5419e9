"""Pieces that several threads or clients read."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from pantala_pieces.descriptor import Descriptor
from pantala_pieces.errors import PieceMissingError, StoreError
from pantala_pieces.file import PieceFile
from pantala_pieces.meta import Meta
from pantala_pieces.store import PieceStore
from tests.support.pieces import piece_of
from tests.support.pieces import store as store

TASK = "a" * 64
PIECES = [bytes([number]) * 4096 for number in range(8)]
READS = 1500


def _filled(store: PieceStore) -> PieceFile:
    file = store.create(Meta(TASK, "generation", 4096, 4096 * len(PIECES)))
    file.put(list(map(piece_of, range(len(PIECES)), PIECES)))
    return file


def _opened(below: Path) -> list[str]:
    """The names below a directory that this process has open, also deleted ones."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            name = str(link.readlink())
        except FileNotFoundError:
            continue
        if name.startswith(f"{below}/"):
            found.append(name)
    return found


def test_readers_that_come_together_open_a_file_once(store: PieceStore) -> None:
    file = _filled(store)
    readers = 6
    with ThreadPoolExecutor(readers) as threads:
        for _ in range(100):
            file.close()
            start = Barrier(readers)

            def read(number: int, start: Barrier = start) -> bytes:
                start.wait()
                return file.read(number)

            assert PIECES[:readers] == list(threads.map(read, range(readers)))
    assert 1 == len(_opened(store.root))
    store.delete(TASK)
    assert [] == _opened(store.root), "a deleted file that is open takes room on the disk"


def test_a_file_that_is_closed_meanwhile_is_read_all_the_same(store: PieceStore) -> None:
    file, interval = _filled(store), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # it is closed between any two steps of a reader, and not once in 5 ms
    try:
        with ThreadPoolExecutor(4) as threads:
            reads = [threads.submit(file.read, number % len(PIECES)) for number in range(READS)]
            while not all(read.done() for read in reads):
                file.close()
    finally:
        sys.setswitchinterval(interval)
    assert [PIECES[number % len(PIECES)] for number in range(READS)] == [read.result() for read in reads]


def test_a_user_keeps_the_descriptor_until_it_is_done(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"former")
    shared = Descriptor(tmp_path / "file", lambda: os.O_RDONLY)
    with shared.using() as former:
        shared.close()
        (tmp_path / "file").unlink()
        (tmp_path / "file").write_bytes(b"latter")
        with shared.using() as latter:
            assert (b"former", b"latter") == (os.pread(former, 10, 0), os.pread(latter, 10, 0))
        assert b"former" == os.pread(former, 10, 0)
        assert 2 == len(_opened(tmp_path))
    assert [str(tmp_path / "file")] == _opened(tmp_path)
    shared.close()
    assert [] == _opened(tmp_path)


def test_a_deleted_file_is_not_opened_again(store: PieceStore) -> None:
    former = _filled(store)
    _filled(store)
    with pytest.raises(PieceMissingError):
        former.read(0)
    former.have = 1  # as a reader saw it that asked a moment before
    with pytest.raises(StoreError, match="No such file"):
        former.read(0)
