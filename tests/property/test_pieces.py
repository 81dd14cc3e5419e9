"""Piece files and the protocol's types for any content."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_pieces import journal
from pantala_pieces.digests import PieceHash
from pantala_pieces.errors import PieceMissingError, StoreFullError
from pantala_pieces.file import Piece
from pantala_pieces.journal import JournalRecord
from pantala_pieces.meta import Meta
from pantala_pieces.parts import Part, PartTable
from pantala_pieces.store import PieceStore
from pantala_protocol import digest, ranges, task_id, ticket
from pantala_protocol.geometry import MAX_PIECE_SIZE, MIN_PIECE_SIZE, Geometry, piece_size
from pantala_protocol.redaction import RedactedURL

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
    return Piece(number, data, PieceHash(data).digest())


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


@pytest.fixture
def store(tmp_path: Path) -> PieceStore:
    store = PieceStore(tmp_path / "tasks", durable=True)
    store.open()
    return store


@given(position=st.integers(min_value=0), value=st.integers(1, 255), length=st.integers(0, 2000))
def test_a_damaged_table_of_parts_never_names_bytes_that_were_not_written(
    position: int, value: int, length: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, parts = Path(folder) / "parts", {0: Part(30, 1), 7: Part(1 << 20, 2), 64 + 9: Part(5, 3)}
        table = PartTable(path)
        for piece, part in parts.items():
            table.note(piece, part)
        table.end()
        damaged = bytearray(path.read_bytes())
        damaged[position % len(damaged)] ^= value
        path.write_bytes(damaged[:length])
        found = PartTable(path)
        assert found.read().items() <= parts.items()
        found.end()


def test_a_table_of_parts_is_read_as_it_was_written(tmp_path: Path) -> None:
    table = PartTable(tmp_path / "parts")
    assert {} == table.read()
    for piece, size in ((0, 1), (5, 70_000), (64, 2)):  # 64 takes the record of 0
        table.note(piece, Part(size, 7))
    table.end()
    again = PartTable(tmp_path / "parts")
    assert {5: Part(70_000, 7), 64: Part(2, 7)} == again.read()
    again.end()


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
    file = store.create(Meta(TASK, "g", 1 << 22, 1 << 44))
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


lengths = st.integers(min_value=0, max_value=1 << 44)
masks = st.sets(st.integers(min_value=0, max_value=5000)).map(lambda pieces: sum(1 << piece for piece in pieces))


@given(lengths)
def test_pieces_cover_the_file_once_and_in_order(length: int) -> None:
    size = piece_size(length)
    geometry = Geometry(size, length)
    assert 0 == size & (size - 1)
    assert MIN_PIECE_SIZE <= size <= MAX_PIECE_SIZE
    if geometry.pieces:
        last = geometry.pieces - 1
        assert length == geometry.offset(last) + geometry.size(last)
        assert 0 < geometry.size(last) <= size
    assert length == geometry.bytes_of(geometry.all)


@pytest.mark.parametrize(
    ("length", "expected"),
    [(0, 131072), (1, 131072), (32 << 20, 131072), (64 << 20, 262144), (1 << 30, 4 << 20), (1 << 40, 4 << 20)],
)
def test_the_piece_size_follows_the_length(length: int, expected: int) -> None:
    assert expected == piece_size(length)


@given(masks)
def test_ranges_are_read_as_they_were_written(mask: int) -> None:
    assert mask == ranges.parse(ranges.render(mask))
    assert mask == sum(1 << piece for piece in ranges.members(mask))


@given(st.text(alphabet="0123456789-, +_x", max_size=20))
def test_ranges_are_read_or_refused_with_a_value_error(text: str) -> None:
    try:
        mask = ranges.parse(text)
    except ValueError:
        return
    assert mask == ranges.parse(ranges.render(mask))


@pytest.mark.parametrize("text", ["1-0", "-1", "1-", "01", "1,,2", " 1", "4194304", "0-9999999", "٣", "0-3,3", "5,1"])
def test_wrong_ranges_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="range"):
        ranges.parse(text)


@given(st.tuples(st.text(), st.text(), st.text(), st.text()), st.tuples(st.text(), st.text(), st.text(), st.text()))
def test_task_ids_differ_where_anything_differs(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    ids = [task_id.compute(url, digest=d, scope=s, credentials=c) for url, d, s, c in (one, other)]
    assert (one == other) == (ids[0] == ids[1])
    assert ids[0] == task_id.parse(ids[0])


@pytest.mark.parametrize(
    ("url", "names", "expected"),
    [
        ("http://o/f", ["a"], "http://o/f"),
        ("http://o/f?a=1", ["a"], "http://o/f"),
        ("http://o/f?b=2&a=1&c", ["a"], "http://o/f?b=2&c"),
        ("http://o/f?a=1&a=2#x", ["a"], "http://o/f#x"),
        ("http://o/f?ab=1", ["a"], "http://o/f?ab=1"),
    ],
)
def test_query_parameters_are_dropped_by_name(url: str, names: list[str], expected: str) -> None:
    assert expected == task_id.without_query_parameters(url, names)


@given(st.binary(min_size=16, max_size=32), st.integers(min_value=0, max_value=1 << 33))
def test_a_ticket_is_good_for_its_task_its_key_and_its_time_only(key: bytes, now: int) -> None:
    text = ticket.issue(key, "t", "g", now=now)
    assert ticket.check(key, "t", "g", text, now=now + ticket.LIFETIME)
    assert not ticket.check(key, "t", "g", text, now=now + ticket.LIFETIME + 1)
    assert not ticket.check(key, "u", "g", text, now=now)
    assert not ticket.check(key, "t", "h", text, now=now)
    assert not ticket.check(key + b"x", "t", "g", text, now=now)


@given(st.text(max_size=100))
def test_any_text_may_be_shown_as_a_ticket(text: str) -> None:
    assert not ticket.check(b"key", "t", "g", text, now=0)


@given(st.text())
def test_any_text_may_be_redacted(text: str) -> None:
    assert "secret" not in RedactedURL(f"http://user:secret@host/secret/x.secret?token=secret#{text}")
    assert RedactedURL(f"http://host/{text}").isprintable()
    RedactedURL(text)


def test_a_redacted_url_still_says_where() -> None:
    assert "https://…@h.example:444/…" == RedactedURL("https://u:p@h.example:444/a/b?sig=1")
    assert "http://[::1]:80/" == RedactedURL("http://[::1]:80/")
    assert "<unreadable URL>" == RedactedURL("not a url")


@pytest.mark.parametrize(
    "text", ["", "md5:" + "0" * 32, "sha256:" + "0" * 63, "sha256:" + "A" * 64, "sha512:" + "0" * 64]
)
def test_other_digests_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="digest"):
        digest.parse(text)


def test_weak_algorithms_are_refused() -> None:
    with pytest.raises(ValueError, match="does not guarantee integrity"):
        digest.new("md5")
