"""The SHA-256 of pieces for peers of the former version. The files are on a real disk."""

import asyncio
import hashlib
import os
import threading
from pathlib import Path

import pytest

from pantala_pieces.file import PieceFile
from pantala_pieces.meta import Meta
from pantala_pieces.store import PieceStore
from pantala_protocol.sync import PieceWork, SyncAnswer
from pantala_protocol.task_id import compute
from pantala_supernode.sync.former_digests import FormerDigests
from tests.support.pieces import piece_of

ID = compute("http://origin.example/f")
PIECE = 128 * 1024
PARTS = [os.urandom(PIECE) for _ in range(12)]
SHA256 = [hashlib.sha256(data).hexdigest() for data in PARTS]


class Shelf:
    """A store with one file, which counts how many pieces are hashed."""

    def __init__(self, folder: Path) -> None:
        self.store = PieceStore(folder, durable=False)
        self.store.open()
        self.file = self.store.create(Meta(ID, "g", PIECE, PIECE * len(PARTS)))
        self.file.put(list(map(piece_of, range(len(PARTS)), PARTS)))
        self.lookups = 0
        self.damaged: list[int] = []
        self.former = FormerDigests(self._lookup, on_damaged=lambda _task, piece: self.damaged.append(piece))

    def _lookup(self, task_id: str) -> PieceFile | None:
        self.lookups += 1
        return self.store.get(task_id)

    async def of(self, *pieces: int, generation: str = "g") -> list[str]:
        work = tuple(PieceWork(ID, generation, piece, 0, PIECE, "h", 1, "t") for piece in pieces)
        return [each.sha256 for each in (await self.former.fill(SyncAnswer("s", 1, work=work))).work]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


async def test_all_peers_get_the_digest_of_a_piece_that_is_hashed_once(shelf: Shelf) -> None:
    assert [[SHA256[1]], SHA256] == await asyncio.gather(shelf.of(1), shelf.of(*range(len(PARTS))))
    assert SHA256 == await shelf.of(*range(len(PARTS)))
    assert len(PARTS) == shelf.lookups


async def test_four_pieces_are_hashed_at_once(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process needs its other threads."""
    four, running, most = threading.Barrier(4), 0, 0

    def read(_: PieceFile, piece: int) -> bytes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        four.wait(10)
        running -= 1
        return PARTS[piece]

    monkeypatch.setattr(PieceFile, "read_verified", read)
    assert SHA256 == await shelf.of(*range(len(PARTS)))
    assert 4 == most


async def test_a_damaged_piece_is_reported_and_has_none(shelf: Shelf) -> None:
    with shelf.file.path.open("r+b") as data:
        data.write(b"other bytes")
    assert ["", SHA256[1]] == await shelf.of(0, 1)
    assert [0] == shelf.damaged


async def test_a_disk_that_cannot_be_read_is_reported(shelf: Shelf) -> None:
    shelf.file.close()
    shelf.file.path.unlink()
    assert [""] == await shelf.of(3)
    assert [3] == shelf.damaged


@pytest.mark.parametrize("generation", ["g", "former"])
async def test_a_piece_that_is_not_cached_has_none(shelf: Shelf, generation: str) -> None:
    if generation == "g":
        shelf.file.forget(1 << 5)
    assert [""] == await shelf.of(5, generation=generation)
    assert [] == shelf.damaged
