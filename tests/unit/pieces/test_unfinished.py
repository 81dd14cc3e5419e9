"""Parts of unfinished pieces: they survive a kill, and nothing else."""

import errno
import os
from pathlib import Path

import pytest

import pantala_pieces.parts
from pantala_pieces.errors import StoreError
from pantala_pieces.file import PieceFile
from pantala_pieces.meta import Meta
from pantala_pieces.store import PieceStore
from pantala_protocol import task_id
from tests.support.pieces import piece_of

TASK = task_id.compute("unfinished")
PIECE = 1000
DATA = bytes(range(250)) * 4


@pytest.fixture
def file(tmp_path: Path) -> PieceFile:
    """A file of three pieces, with 300 bytes of piece 1."""
    made = PieceStore(tmp_path, durable=True).create(Meta(TASK, "g", PIECE, 3 * PIECE))
    made.extend(1, 0, DATA[:200])
    made.extend(1, 200, DATA[200:300])
    return made


def after_a_kill(file: PieceFile) -> dict[int, int]:
    """The parts that the next process finds."""
    (found,) = PieceStore(file.directory.parent.parent, durable=True).open()
    found.verify()
    return found.parts


def test_a_part_survives_a_kill(file: PieceFile) -> None:
    assert {1: 300} == after_a_kill(file)
    assert DATA[:300] == file.read_part(1)


def test_a_part_does_not_survive_a_reboot(file: PieceFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pantala_pieces.parts, "boot_id", lambda: b"another boot id.")
    assert {} == after_a_kill(file)


def test_bytes_behind_a_gap_are_not_written(file: PieceFile) -> None:
    file.extend(1, 301, b"x")
    file.extend(2, 1, b"x")
    assert {1: 300} == after_a_kill(file)


def test_a_finished_piece_is_no_longer_a_part(file: PieceFile) -> None:
    file.put([piece_of(1, DATA)])
    assert {} == file.parts == after_a_kill(file)
    assert DATA == file.read(1)


def test_a_damaged_piece_is_not_continued(file: PieceFile) -> None:
    file.put([piece_of(1, DATA)])
    with file.path.open("r+b") as data:
        data.seek(PIECE)
        data.write(b"\xff")
    assert {} == after_a_kill(file)


def test_no_part_survives_a_failed_sync(file: PieceFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", failing)
    with pytest.raises(StoreError):
        file.put([piece_of(0, DATA)])
    assert {} == file.parts == after_a_kill(file)
    file.extend(2, 0, DATA[:10])
    assert {2: 10} == after_a_kill(file)
