"""Checksums are correct and computed once."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pantala_pieces.file import Meta, Piece, PieceFile
from pantala_pieces.store import PieceStore
from pantala_protocol import task_id
from pantala_protocol.geometry import Wrapping
from pantala_supernode.dragonfly.checksums import Checksums

ID = task_id.compute("http://origin.example/f")
CONTENT = bytes(range(256)) * 10
P = 1024


@pytest.fixture
def file(tmp_path: Path) -> Iterator[PieceFile]:
    store = PieceStore(tmp_path, durable=False)
    store.open()
    file = store.create(Meta(ID, "g", P, len(CONTENT)))
    parts = [CONTENT[start : start + P] for start in range(0, len(CONTENT), P)]
    file.put(Piece(number, part, hashlib.sha256(part).digest()) for number, part in enumerate(parts))
    yield file
    store.close()


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


async def test_sums_are_correct(file: PieceFile) -> None:
    sums = Checksums(lambda _name: file)
    last = Wrapping(P).wrap(CONTENT[2 * P :])
    assert f"{md5(last)}:{len(last)}" == await sums.piece(ID, "g", 2)
    assert md5(CONTENT) == await sums.whole(ID, "g")
    sums.close()


async def test_a_sum_is_computed_once(file: PieceFile) -> None:
    sums = Checksums(lambda _name: file)
    piece, whole = await sums.piece(ID, "g", 0), await sums.whole(ID, "g")
    file.forget(file.have)
    assert (piece, whole) == (await sums.piece(ID, "g", 0), await sums.whole(ID, "g"))
    sums.close()


async def test_a_missing_piece_has_no_sum(file: PieceFile) -> None:
    sums = Checksums(lambda name: file if name == ID else None)
    for name, generation, piece in ((ID, "g", 3), (ID, "other", 0), ("x", "g", 0)):
        with pytest.raises(LookupError):
            await sums.piece(name, generation, piece)
    file.forget(0b100)
    with pytest.raises(LookupError):
        await sums.whole(ID, "g")
    sums.close()
