"""The bytes of small files in answers. The files are on a real disk."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from pantala_pieces.digests import PieceHash
from pantala_pieces.file import Piece, PieceFile
from pantala_pieces.meta import Meta
from pantala_pieces.store import PieceStore
from pantala_protocol.sync import PieceWork, SyncAnswer
from pantala_protocol.task_id import compute
from pantala_supernode.sync.small_files import SmallFiles

ID = compute("http://origin.example/f")


class Shelf:
    """A store with small files, which counts how often a file is looked up."""

    def __init__(self, folder: Path) -> None:
        self.store = PieceStore(folder, durable=False)
        self.store.open()
        self.lookups = 0
        self.small = SmallFiles(self._lookup)

    def _lookup(self, task_id: str) -> PieceFile | None:
        self.lookups += 1
        return self.store.get(task_id)

    def put(self, content: bytes, name: str = ID) -> PieceWork:
        file = self.store.create(Meta(name, "g", 128 * 1024, len(content)))
        digest = PieceHash(content)
        file.put([Piece(0, content, digest.digest())])
        return PieceWork(name, "g", 0, 0, len(content), "h", 1, "ticket", digest=digest.hexdigest())

    async def sends(self, *work: PieceWork) -> list[bytes | None]:
        """The contents in an answer, as a peer decodes them."""
        answer = await self.small.fill(SyncAnswer("s", 1, work=work))
        return [one.content for one in msgspec.json.decode(msgspec.json.encode(answer), type=SyncAnswer).work]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


async def test_the_bytes_come_with_the_work_and_are_read_once(shelf: Shelf) -> None:
    content = bytes(range(256))
    work = shelf.put(content)
    assert [content] == await shelf.sends(work)
    assert [content] == await shelf.sends(work)
    assert 1 == shelf.lookups


async def test_other_pieces_come_without_bytes(shelf: Shelf) -> None:
    work = shelf.put(b"x" * 100)
    others = [
        msgspec.structs.replace(work, piece=1),
        msgspec.structs.replace(work, provider="n2"),
        msgspec.structs.replace(work, size=128 * 1024),
    ]
    assert [None] * 3 == await shelf.sends(*others)
    assert 0 == shelf.lookups


def lost(shelf: Shelf) -> None:
    shelf.store.delete(ID)


def damaged(shelf: Shelf) -> None:
    file = shelf.store.get(ID)
    assert file is not None
    file.path.write_bytes(b"y" * 100)


@pytest.mark.parametrize("harm", [lost, damaged])
async def test_a_file_that_cannot_be_read_is_left_to_the_piece_server(
    shelf: Shelf, harm: Callable[[Shelf], None]
) -> None:
    work = shelf.put(b"x" * 100)
    harm(shelf)
    assert [None] == await shelf.sends(work)


async def test_content_of_another_generation_or_size_is_not_sent(shelf: Shelf) -> None:
    work = shelf.put(b"x" * 100)
    assert [None] == await shelf.sends(msgspec.structs.replace(work, generation="h"))
    assert [None] == await shelf.sends(msgspec.structs.replace(work, size=99))


async def test_an_accused_file_is_read_again(shelf: Shelf) -> None:
    work = shelf.put(b"x" * 100)
    await shelf.sends(work)
    damaged(shelf)
    assert [b"x" * 100] == await shelf.sends(work)
    shelf.small.forget(ID, 0)
    assert [None] == await shelf.sends(work)


async def test_memory_is_bounded(shelf: Shelf) -> None:
    works = [shelf.put(b"%d" % number * 1000, compute(str(number))) for number in range(1, 10)] * 2
    shelf.small = SmallFiles(shelf._lookup, kept=5_000)
    for work in works:
        assert [work.size] == [len(content or b"") for content in await shelf.sends(work)]
    assert shelf.small._kept.currsize <= 5_000
