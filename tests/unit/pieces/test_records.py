"""Records on the disk: a damaged one is noticed, whatever happened to it, and those of the version before are read."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_peer.cache.records import PublicationRecord
from pantala_pieces import records
from pantala_pieces.meta import Meta
from pantala_pieces.records import RecordError

META = Meta("1" * 64, "generation", 1 << 20, 5 << 20, '"etag"', digest="sha256:" + "a" * 64, claims=("uid",))
SEALED = records.seal(msgspec.json.encode(META))


def test_h3_each_flipped_bit_is_noticed() -> None:
    for bit in range(8 * len(SEALED)):
        damaged = bytearray(SEALED)
        damaged[bit // 8] ^= 1 << bit % 8
        assert refused(bytes(damaged)), bit


def test_h3_each_cut_is_noticed() -> None:
    assert [] == [size for size in range(len(SEALED)) if not refused(SEALED[:size])]


def refused(content: bytes) -> bool:
    try:
        records.decode(content, Meta)
    except RecordError:
        return True
    return False


@given(st.binary(max_size=400))
def test_h3_any_bytes_are_read_or_refused(content: bytes) -> None:
    for data in (content, SEALED + content, content + SEALED, SEALED[: len(content)] + content):
        try:
            assert META == records.decode(data, Meta) or data != SEALED
        except RecordError:
            assert data != SEALED


def test_h3_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    for value in (META, PublicationRecord("a/b", "t", (1,), ())):
        records.store(tmp_path / "r", value)
        assert value == records.load(tmp_path / "r", type(value))
    records.store(tmp_path / "r", {})
    assert {} == records.load(tmp_path / "r", dict)


def test_h3_a_record_of_the_version_before_is_read(tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(msgspec.json.encode(META))
    assert META == records.load(tmp_path / "r", Meta)


def test_h3_the_version_before_reads_a_record_of_this_version() -> None:
    assert META == msgspec.json.decode(SEALED, type=Meta)


@pytest.mark.parametrize("old", [b'{"a":1}', msgspec.json.encode(META) + b" ", b"[]", b"", b"\xff"])
def test_h3_other_content_without_a_checksum_is_refused(old: bytes) -> None:
    with pytest.raises(RecordError):
        records.decode(old, Meta)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def link(path: Path) -> None:
    records.store(path.with_name("elsewhere"), META)
    path.symlink_to("elsewhere")


def directory(path: Path) -> None:
    path.mkdir()
    (path / "foreign").write_text("foreign")


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


OBSTACLES: list[Callable[[Path], None]] = [fifo, link, directory, unix_socket, huge]


@pytest.mark.timeout(10)
@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_h3_another_thing_in_the_place_of_a_record_is_refused_and_replaced(
    tmp_path: Path, obstacle: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path, temporary = Path("r"), Path(".r.new")
    obstacle(path)
    obstacle(temporary)
    with pytest.raises(RecordError):
        records.load(path, Meta)
    records.store(path, META)
    assert META == records.load(path, Meta)
    foreign = [each.read_text() for each in tmp_path.rglob("foreign")]
    assert foreign == ["foreign"] * (2 if obstacle is directory else 0)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(SEALED[:-9])])
def test_h3_a_pair_of_records_outlasts_the_loss_of_one(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    path = tmp_path / "r"
    records.store_pair(path, META)
    assert records.is_intact(path, Meta)
    damage(path)
    assert META == records.load_pair(path, Meta)
    assert not records.is_intact(path, Meta)
    damage(records.copy_of(path))
    with pytest.raises((RecordError, FileNotFoundError)):
        records.load_pair(path, Meta)
