"""A foreign volume is left alone."""

from pathlib import Path

import pytest

from pantala_pieces.errors import StoreError
from pantala_supernode.volume.identity import Volume, alone, open_volume


def test_an_empty_directory_becomes_a_volume(tmp_path: Path) -> None:
    first = open_volume(tmp_path / "data", lambda: "one")
    assert (Volume(1, "one", "tasks"), tmp_path / "data" / "tasks") == first
    assert first == open_volume(tmp_path / "data", lambda: "two")


@pytest.mark.parametrize(
    "content",
    [b'{"format": 2, "id": "x", "tasks": "tasks"}', b"garbage", b'{"format": 1, "id": "x", "tasks": "../up"}'],
)
def test_another_format_is_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tasks" / "ab").mkdir(parents=True)
    (tmp_path / "volume.json").write_bytes(content)
    volume, tasks = open_volume(tmp_path, lambda: "one")
    assert (Volume(1, "one", "tasks-one"), tmp_path / "tasks-one") == (volume, tasks)
    assert (tmp_path / "tasks" / "ab").is_dir()
    assert content == (tmp_path / "volume.json.before-one").read_bytes()
    assert (volume, tasks) == open_volume(tmp_path, lambda: "two")


def test_tasks_without_a_volume_file_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "tasks" / "ab").mkdir(parents=True)
    assert tmp_path / "tasks-one" == open_volume(tmp_path, lambda: "one")[1]


def test_a_directory_that_cannot_be_created_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="open the volume"):
        open_volume(tmp_path / "file" / "data", lambda: "one")


async def test_a_volume_is_locked_by_one_supernode(tmp_path: Path) -> None:
    async with alone(tmp_path):
        with pytest.raises(StoreError, match="another supernode uses the volume"):
            async with alone(tmp_path):
                pass
    async with alone(tmp_path):
        pass
