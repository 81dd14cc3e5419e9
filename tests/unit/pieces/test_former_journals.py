"""Journals of the former version, whose records have the SHA-256 of pieces."""

import hashlib
import os
from pathlib import Path

import pytest

from pantala_pieces.digests import PieceHash
from pantala_pieces.file import Piece, PieceFile
from pantala_pieces.journal import decode
from pantala_pieces.meta import Meta
from pantala_pieces.store import PieceStore
from pantala_protocol import task_id

PIECE = 1000
PARTS = [os.urandom(PIECE) for _ in range(3)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store that the former version wrote."""
    file = PieceStore(tmp_path, durable=True).create(Meta(task_id.compute("former"), "g", PIECE, len(PARTS) * PIECE))
    file.put([Piece(number, data, hashlib.sha256(data).digest()) for number, data in enumerate(PARTS)])
    file.close()
    return tmp_path


def opened(folder: Path) -> PieceFile:
    """The file, as the next process finds it."""
    (found,) = PieceStore(folder, durable=True).open()
    found.verify()
    return found


def test_all_pieces_are_kept_and_have_blake3_digests(folder: Path) -> None:
    file = opened(folder)
    assert file.whole
    assert [PieceHash(data).digest() for data in PARTS] == [file.digest(number) for number in range(len(PARTS))]


def test_a_rollback_finds_the_former_records(folder: Path) -> None:
    opened(folder).close()
    (journal,) = folder.glob("*/*/journal")
    assert [hashlib.sha256(data).digest() for data in PARTS] == [
        record.digest for record in decode(journal.read_bytes())
    ]


def test_a_damaged_piece_is_not_kept(folder: Path) -> None:
    (data,) = folder.glob("*/*/data")
    with data.open("r+b") as file:
        file.seek(PIECE)
        file.write(b"other bytes")
    assert 0b101 == opened(folder).have
