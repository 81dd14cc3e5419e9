"""The SHA-256 of pieces for peers of the former version. The files are on a real disk."""

import hashlib
import os
from pathlib import Path

import pytest

from pantala_pieces.digests import PieceHash
from pantala_pieces.errors import PieceMissingError
from pantala_pieces.file import Meta, Piece, PieceFile
from pantala_pieces.store import PieceStore
from pantala_protocol.task_id import compute
from pantala_supernode.sync.former_digests import FormerDigests
from tests.support.eventually import eventually

ID = compute("http://origin.example/f")
PIECE = 128 * 1024
PARTS = [os.urandom(PIECE) for _ in range(12)]
SHA256 = [hashlib.sha256(data).hexdigest() for data in PARTS]


class Shelf:
    """A store with one file, which counts how often the file is looked up."""

    def __init__(self, folder: Path) -> None:
        self.store = PieceStore(folder, durable=False)
        self.store.open()
        self.file = self.store.create(Meta(ID, "g", PIECE, PIECE * len(PARTS)))
        self.file.put([Piece(number, data, PieceHash(data).digest()) for number, data in enumerate(PARTS)])
        self.lookups = 0
        self.known: list[str] = []
        self.damaged: list[int] = []
        self.former = FormerDigests(
            self._lookup, on_known=self.known.append, on_damaged=lambda _task, piece: self.damaged.append(piece)
        )

    def _lookup(self, task_id: str) -> PieceFile | None:
        self.lookups += 1
        return self.store.get(task_id)

    def of(self, piece: int, generation: str = "g") -> str | None:
        try:
            return self.former.of(ID, generation, piece)
        except PieceMissingError:
            return None


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


async def test_a_piece_is_hashed_once_and_then_known(shelf: Shelf) -> None:
    assert [None, None] == [shelf.of(1), shelf.of(1)]
    await eventually(lambda: shelf.known)
    assert ([ID], SHA256[1], 1) == (shelf.known, shelf.of(1), shelf.lookups)


async def test_four_pieces_are_hashed_at_once_in_the_order_of_the_requests(shelf: Shelf) -> None:
    assert {None} == {shelf.of(piece) for piece in range(len(PARTS))}
    assert 4 == len(shelf.former._hashing)
    await eventually(lambda: len(shelf.known) == len(PARTS))
    assert SHA256 == [shelf.of(piece) for piece in range(len(PARTS))]
    assert len(PARTS) == shelf.lookups


async def test_a_task_whose_digest_is_known_waits_behind_the_requests_of_others(shelf: Shelf) -> None:
    """A large file asks for its next piece in each callback."""
    begun: list[set[int]] = []

    def greedy(_: str) -> None:
        begun.append({key.piece for key in shelf.former._hashing})
        shelf.of(11)

    shelf.former._on_known = greedy
    for piece in range(5):
        shelf.of(piece)
    await eventually(lambda: begun)
    assert 4 in begun[0]


async def test_a_damaged_piece_is_reported_and_has_none(shelf: Shelf) -> None:
    with shelf.file.path.open("r+b") as data:
        data.write(b"other bytes")
    assert shelf.of(0) is None
    await eventually(lambda: shelf.damaged == [0])
    assert [] == shelf.known


async def test_a_disk_that_cannot_be_read_is_reported(shelf: Shelf) -> None:
    shelf.file.close()
    shelf.file.path.unlink()
    assert shelf.of(3) is None
    await eventually(lambda: shelf.damaged == [3])


@pytest.mark.parametrize("generation", ["g", "former"])
async def test_a_piece_that_is_not_cached_has_none(shelf: Shelf, generation: str) -> None:
    if generation == "g":
        shelf.file.forget(1 << 5)
    assert shelf.of(5, generation) is None
    await eventually(lambda: shelf.lookups and not shelf.former._hashing)
    assert ([], []) == (shelf.known, shelf.damaged)
