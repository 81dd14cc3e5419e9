"""A part of the disk stays free for other programs, whatever the pieces need."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_pieces.errors import StoreError, StoreFullError
from pantala_pieces.file import Piece, PieceFile
from pantala_pieces.meta import Meta
from pantala_pieces.store import PieceStore
from pantala_pieces.usage import Usage
from pantala_protocol import task_id

TASK, PIECE = task_id.compute("m1"), 1024
ROOM = 1 << 40


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The free bytes of a simulated disk of 1 TiB, of which 10 % are the headroom."""
    room = [ROOM]
    disk = lambda _: SimpleNamespace(f_blocks=ROOM, f_bavail=room[0], f_frsize=1)  # noqa: E731
    monkeypatch.setattr(os, "statvfs", disk)
    return room


def made(folder: Path, length: int | None) -> PieceFile:
    store = PieceStore(folder, durable=False, headroom=10)
    return store.create(Meta(TASK, "g", PIECE, length))


@given(st.integers(0, ROOM), st.integers(1, ROOM), st.floats(0, 90), st.integers(0, ROOM))
def test_m1_what_fits_leaves_the_headroom_free(free: int, total: int, headroom: float, size: int) -> None:
    usage = Usage(min(free, total), total, int(total * headroom / 100))
    try:
        usage.check(size, "write")
    except StoreFullError:
        assert usage.free - size < usage.headroom
    else:
        assert size == 0 or usage.free - size >= usage.headroom


def test_m1_reserved_room_leaves_the_headroom_free(tmp_path: Path, free: list[int]) -> None:
    free[0] = ROOM // 10 + 3 * PIECE
    message = "4KiB are needed, but only 3KiB are free besides the 102.4GiB that must stay free"
    with pytest.raises(StoreFullError, match=message):
        made(tmp_path, 4 * PIECE).reserve()
    made(tmp_path, 3 * PIECE).reserve()


def test_m1_reserved_room_is_reserved_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tmpfs fills the reserved pages with zeros when a second call reserves them."""
    calls: list[int] = []
    allocate = os.posix_fallocate

    def counting(fd: int, offset: int, length: int) -> None:
        calls.append(length)
        allocate(fd, offset, length)

    monkeypatch.setattr(os, "posix_fallocate", counting)
    file = made(tmp_path, 4 * PIECE)
    for _ in range(3):
        file.reserve()
    os.truncate(file.path, 0)
    file.reserve()
    assert [4 * PIECE] * 2 == calls
    assert 4 * PIECE <= file.allocated


def test_m1_the_error_for_a_file_without_a_known_length_names_no_length(tmp_path: Path) -> None:
    file = made(tmp_path, None)
    file.path.mkdir()
    with pytest.raises(StoreError, match="reserve 0 bytes for "):
        file.reserve()


def test_m1_pieces_and_parts_without_a_known_length_leave_the_headroom_free(tmp_path: Path, free: list[int]) -> None:
    file = made(tmp_path, None)
    free[0] = ROOM // 10 + PIECE - 1
    with pytest.raises(StoreFullError):
        file.put([Piece(0, bytes(PIECE), bytes(32))])
    with pytest.raises(StoreFullError):
        file.extend(0, 0, bytes(10))
    free[0] += 1
    file.put([Piece(0, bytes(PIECE), bytes(32))])
    assert 1 == file.have
