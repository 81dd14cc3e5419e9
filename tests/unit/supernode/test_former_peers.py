"""Work for peers of the former version, which compare pieces by SHA-256. The files are on a real disk."""

import hashlib
import os
from pathlib import Path

import pytest

from pantala_pieces.digests import PieceHash
from pantala_pieces.file import Meta, Piece, PieceFile
from pantala_pieces.store import PieceStore
from pantala_protocol.sync import PieceWork, SyncAnswer
from pantala_protocol.task_id import compute
from pantala_supernode.sync.former_peers import FormerPeers
from pantala_supernode.sync.small_files import SmallFiles

ID = compute("http://origin.example/f")
PIECE = 128 * 1024
PARTS = [os.urandom(PIECE) for _ in range(3)]


class Shelf:
    """A store with one file, which counts how often the file is looked up."""

    def __init__(self, folder: Path) -> None:
        self.store = PieceStore(folder, durable=False)
        self.store.open()
        self.file = self.store.create(Meta(ID, "g", PIECE, PIECE * len(PARTS)))
        self.file.put([Piece(number, data, PieceHash(data).digest()) for number, data in enumerate(PARTS)])
        self.lookups = 0
        self.former = FormerPeers(self._lookup, SmallFiles(self.store.get))

    def _lookup(self, task_id: str) -> PieceFile | None:
        self.lookups += 1
        return self.store.get(task_id)

    async def digests(self, *pieces: int, generation: str = "g") -> list[str]:
        work = tuple(PieceWork(ID, generation, piece, piece * PIECE, PIECE, "", "h", 1, "t") for piece in pieces)
        return [each.sha256 for each in (await self.former.fill(SyncAnswer("s", 1, work=work))).work]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


async def test_each_piece_has_its_sha256_and_is_read_once(shelf: Shelf) -> None:
    expected = [hashlib.sha256(data).hexdigest() for data in PARTS]
    assert expected[1:] == await shelf.digests(1, 2)
    assert expected == await shelf.digests(0, 1, 2)
    assert len(PARTS) == shelf.lookups


async def test_damaged_missing_and_former_pieces_have_none(shelf: Shelf) -> None:
    with shelf.file.path.open("r+b") as data:
        data.write(b"other bytes")
    shelf.file.forget(1 << 1)
    assert ["", "", hashlib.sha256(PARTS[2]).hexdigest()] == await shelf.digests(0, 1, 2)
    assert [""] == await shelf.digests(2, generation="former")


async def test_an_answer_without_work_reads_nothing(shelf: Shelf) -> None:
    assert [] == await shelf.digests()
    assert 0 == shelf.lookups
