"""A store whose disk has lost a part of one copy."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pantala_pieces.errors import StoreError
from pantala_pieces.meta import Meta
from pantala_pieces.store import PieceStore

TASK, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def store(tmp_path: Path) -> PieceStore:
    made = PieceStore(tmp_path, durable=False)
    made.open()
    for name in (TASK, OTHER):
        made.create(Meta(name, "g", 1000, 1000)).reserve()
    return made


@pytest.mark.parametrize("lost", ["", "data"], ids=["directory", "data"])
@pytest.mark.parametrize("removable", [True, False])
def test_an_inode_that_the_disk_has_lost_costs_one_copy(
    store: PieceStore, monkeypatch: pytest.MonkeyPatch, lost: str, *, removable: bool
) -> None:
    """The process used to end at each start."""
    place, lstat, unlink = store.root / TASK[:2] / TASK / lost, Path.lstat, Path.unlink

    def broken(path: Path) -> Path:
        if path == place:
            raise OSError(errno.EUCLEAN, os.strerror(errno.EUCLEAN), str(path))
        return path

    monkeypatch.setattr(Path, "lstat", lambda path: lstat(broken(path)))
    if not removable:
        monkeypatch.setattr(Path, "unlink", lambda path, **more: unlink(broken(path), **more))
    again = PieceStore(store.root, durable=False)
    assert [OTHER] == [file.meta.task_id for file in again.open()]


@pytest.mark.parametrize("number", [errno.EBADMSG, errno.EACCES])
def test_a_file_that_cannot_be_removed_is_set_aside(
    store: PieceStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """ext4 does not remove a file with a damaged inode. The copy was never fetched again."""
    directory, unlink = store.root / TASK[:2] / TASK, Path.unlink

    def broken(path: Path, **more: bool) -> None:
        if path == directory / "data":
            raise OSError(number, os.strerror(number), str(path))
        unlink(path, **more)

    monkeypatch.setattr(Path, "unlink", broken)
    store.create(Meta(TASK, "new", 1000, 1000)).reserve()
    assert (1, 2) == (len(list(directory.parent.glob("*.foreign-*"))), len(list(directory.parent.iterdir())))


def test_a_folder_that_the_disk_has_lost_costs_its_copies(store: PieceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, iterdir = store.root / TASK[:2], Path.iterdir
    (store.root / "cc").touch()

    def broken(path: Path) -> Iterator[Path]:
        if path == folder:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", broken)
    assert [OTHER] == [file.meta.task_id for file in PieceStore(store.root, durable=False).open()]


def test_other_errors_of_the_disk_stop_the_process(store: PieceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """No copy is deleted because of an error that may pass."""

    def refused(path: Path) -> os.stat_result:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))

    monkeypatch.setattr(Path, "lstat", refused)
    with pytest.raises(StoreError):
        PieceStore(store.root, durable=False).open()
    assert {TASK, OTHER} == {path.name for path in store.root.glob("??/*")}
