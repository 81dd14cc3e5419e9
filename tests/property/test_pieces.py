"""Pieces on a disk: what was promised durable is there and right, what is wrong is not shown."""

import hashlib
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pantala_pieces import journal
from pantala_pieces.errors import PieceMissingError, StoreFullError
from pantala_pieces.file import Meta, Piece
from pantala_pieces.journal import JournalRecord
from pantala_pieces.store import PieceStore
from pantala_protocol import task_id
from pantala_protocol.geometry import Geometry
from tests.support.examples import examples

TASK = task_id.compute("http://origin/file")
SIZE = 64

records = st.builds(
    JournalRecord,
    st.integers(min_value=0, max_value=1 << 20),
    st.integers(min_value=0, max_value=1 << 22),
    st.binary(min_size=32, max_size=32),
)


def piece_of(content: bytes, number: int) -> Piece:
    data = content[number * SIZE : (number + 1) * SIZE]
    return Piece(number, data, hashlib.sha256(data).digest())


@given(st.lists(records, max_size=20), st.integers(min_value=0), st.integers(min_value=0, max_value=255))
def test_a_journal_is_read_up_to_the_first_wrong_byte(written: list[JournalRecord], position: int, value: int) -> None:
    content = bytearray(b"".join(map(journal.encode, written)))
    assert written == list(journal.decode(bytes(content)))
    if content:
        position %= len(content)
        changed = content[position] != value
        content[position] = value
        intact = position // journal.RECORD_SIZE if changed else len(written)
        assert written[:intact] == list(journal.decode(bytes(content)))


@settings(max_examples=examples(50))
@given(st.binary(min_size=1, max_size=10 * SIZE), st.data())
def test_after_a_crash_exactly_the_intact_pieces_are_held(content: bytes, data: st.DataObject) -> None:
    geometry = Geometry(SIZE, len(content))
    written = data.draw(st.sets(st.integers(min_value=0, max_value=geometry.pieces - 1)))
    flipped = data.draw(st.sets(st.sampled_from(sorted(written)))) if written else set()
    torn = data.draw(st.binary(max_size=journal.RECORD_SIZE - 1))
    with tempfile.TemporaryDirectory() as root:
        store = PieceStore(Path(root), durable=False)
        store.open()
        file = store.create(Meta(TASK, "g", SIZE, len(content)))
        file.reserve()
        file.put(piece_of(content, number) for number in written)
        store.close()
        with file.path.open("r+b") as raw:
            for number in flipped:
                raw.seek(number * SIZE)
                byte = raw.read(1)
                raw.seek(number * SIZE)
                raw.write(bytes([byte[0] ^ 1]))
        with (file.directory / "journal").open("ab") as raw:
            raw.write(torn)

        again = PieceStore(Path(root), durable=False)
        (found,) = again.open()
        assert 0 == found.have
        seen: dict[int, bytes] = {}
        assert sum(1 << number for number in written - flipped) == found.verify(lambda n, d: seen.update({n: d}))
        assert {number: bytes(piece_of(content, number).data) for number in written - flipped} == seen
        assert list(seen) == sorted(seen)
        found.put([piece_of(content, number) for number in range(geometry.pieces)])
        assert geometry.all == found.verify()
        again.close()


@pytest.fixture
def store(tmp_path: Path) -> PieceStore:
    store = PieceStore(tmp_path / "tasks", durable=True)
    store.open()
    return store


def test_holds_knows_ranges_inside_verified_pieces_only(store: PieceStore) -> None:
    content = os.urandom(3 * SIZE + 5)
    file = store.create(Meta(TASK, "g", SIZE, len(content)))
    file.put([piece_of(content, 0), piece_of(content, 1), piece_of(content, 3)])
    assert file.holds(0, 2 * SIZE)
    assert file.holds(SIZE - 1, SIZE + 1)
    assert file.holds(3 * SIZE, 3 * SIZE + 5)
    assert not file.holds(0, 2 * SIZE + 1)
    assert not file.holds(3 * SIZE, 3 * SIZE + 6)
    assert not file.holds(5, 5)
    assert not file.holds(-1, 5)
    assert content[3 * SIZE :] == file.read(3)
    with pytest.raises(PieceMissingError):
        file.read(2)
    store.close()


def test_a_deleted_task_leaves_nothing_and_can_begin_anew(store: PieceStore) -> None:
    file = store.create(Meta(TASK, "g", SIZE, SIZE))
    file.put([piece_of(b"x" * SIZE, 0)])
    store.delete(TASK)
    assert store.get(TASK) is None
    assert [] == [path for path in store.root.rglob("*") if path.is_file()]
    assert 0 == store.create(Meta(TASK, "h", SIZE, SIZE)).verify()
    store.close()


def test_foreign_names_are_left_alone_and_half_made_tasks_are_cleaned(store: PieceStore) -> None:
    foreign = store.root / "ab" / "notes"
    foreign.mkdir(parents=True)
    half = store.root / TASK[:2] / TASK
    half.mkdir(parents=True)
    (half / "data").write_bytes(b"bytes without meta")
    assert [] == PieceStore(store.root, durable=False).open()
    assert foreign.exists()
    assert not half.exists()


def test_a_full_disk_is_told_from_a_broken_one(store: PieceStore) -> None:
    file = store.create(Meta(TASK, "g", 1 << 22, 1 << 50))
    with pytest.raises(StoreFullError, match="reserve"):
        file.reserve()
    store.close()


def test_a_symlink_in_place_of_the_data_is_not_followed(store: PieceStore, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    file = store.create(Meta(TASK, "g", SIZE, SIZE))
    file.path.symlink_to(victim)
    with pytest.raises(Exception, match="symbolic"):
        file.put([piece_of(b"x" * SIZE, 0)])
    assert b"untouched" == victim.read_bytes()
    store.close()
