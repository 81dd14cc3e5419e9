"""Identifies the volume by its ``volume.json``.

If the volume has another format, or tasks without a ``volume.json``, the supernode does not change those files. It
creates a directory of its own next to them.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from pantala_pieces import records
from pantala_pieces.errors import StoreFullError, store_errors
from pantala_pieces.records import RecordError
from pantala_pieces.writing import make_directory

_log = structlog.get_logger(__name__)

FORMAT = 1
_NAME = "volume.json"


class Volume(msgspec.Struct, frozen=True):
    """The contents of ``volume.json``."""

    format: int
    id: str
    tasks: str
    """The directory of the tasks, next to ``volume.json``."""


def open_volume(directory: Path, new_id: Callable[[], str]) -> Path:
    """Open the volume in ``directory``, or create one with the ID ``new_id()``. Returns the directory of its tasks.

    It blocks. Raises :class:`pantala_pieces.errors.StoreError`.
    """
    try:
        with store_errors(f"open the volume {directory}", "Give a folder of a disk as --data"):
            make_directory(directory, 0o700)
            found = _read(directory / _NAME)
            if found is None:
                found = _begin(directory, new_id())
            elif not records.is_intact(directory / _NAME, Volume):  # damaged, or of the previous version
                records.store_pair(directory / _NAME, found)
    except StoreFullError as error:
        advice = "Free space there, or give a folder of another disk as --data"
        raise StoreFullError(f"cannot open the volume {directory}: {error.why}. {advice}", error.why) from error
    return directory / found.tasks


def _read(path: Path) -> Volume | None:
    try:
        volume = records.load_pair(path, Volume)
    except FileNotFoundError:
        return None
    except RecordError as error:
        _log.error("the record of the volume is damaged; using a new directory for tasks", error=str(error))
        return None
    safe = volume.tasks and "/" not in volume.tasks and volume.tasks not in (".", "..")
    return volume if volume.format == FORMAT and safe else None


def _begin(directory: Path, identity: str) -> Volume:
    tasks = directory / "tasks"
    foreign = tasks.exists() and any(tasks.iterdir())
    volume = Volume(FORMAT, identity, f"tasks-{identity}" if foreign else "tasks")
    with contextlib.suppress(FileNotFoundError):
        (directory / _NAME).rename(directory / f"{_NAME}.before-{identity}")
    records.store_pair(directory / _NAME, volume)
    return volume
