"""The pieces of a content, as a receiver stores them."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pantala_pieces.digests import PieceHash
from pantala_pieces.file import Piece
from pantala_pieces.store import PieceStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PieceStore]:
    store = PieceStore(tmp_path / "tasks", durable=False)
    store.open()
    yield store
    store.close()


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def piece_of(number: int, data: bytes) -> Piece:
    return Piece(number, data, PieceHash(data).digest())


def pieces_of(content: bytes, size: int) -> list[Piece]:
    return [piece_of(start // size, content[start : start + size]) for start in range(0, len(content), size)]
