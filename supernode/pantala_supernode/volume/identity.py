"""Whose volume it is: ``volume.json`` names its format and identity, so that another's files are left alone.

A volume of another format, or tasks without a ``volume.json``, are left as they are, and this supernode begins with an
empty directory of its own beside them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import structlog

from pantala_pieces.errors import StoreError, from_os_error
from pantala_pieces.file import write_atomically

_log = structlog.get_logger(__name__)

FORMAT = 1
_NAME = "volume.json"


class Volume(msgspec.Struct, frozen=True):
    """What ``volume.json`` says."""

    format: int
    id: str
    tasks: str
    """The directory of the tasks, beside ``volume.json``."""


def open_volume(directory: Path, new_id: Callable[[], str]) -> tuple[Volume, Path]:
    """Find the volume in ``directory``, or begin one under ``new_id()``; give it and its directory of tasks.

    Blocking. Raises :class:`pantala_pieces.errors.StoreError`.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = _read(directory / _NAME)
        if found is None:
            found = _begin(directory, new_id())
    except OSError as error:
        raise from_os_error(error, f"open the volume {directory}") from error
    return found, directory / found.tasks


@contextlib.asynccontextmanager
async def alone(directory: Path) -> AsyncIterator[None]:
    """Keep every other supernode from the volume while the block runs: two would spoil each other's journals.

    Raises :class:`pantala_pieces.errors.StoreError` if one has it.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(f"another supernode uses the volume {directory}; give each its own --data") from error
        except OSError as error:  # not every file system has locks
            _log.warning("the volume cannot be locked; see that no other supernode uses it", error=error.strerror)
        yield
    finally:
        os.close(fd)


def _read(path: Path) -> Volume | None:
    try:
        volume = msgspec.json.decode(path.read_bytes(), type=Volume)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    safe = volume.tasks and "/" not in volume.tasks and volume.tasks not in (".", "..")
    return volume if volume.format == FORMAT and safe else None


def _begin(directory: Path, identity: str) -> Volume:
    tasks = directory / "tasks"
    foreign = tasks.exists() and any(tasks.iterdir())
    volume = Volume(FORMAT, identity, f"tasks-{identity}" if foreign else "tasks")
    if (directory / _NAME).exists():
        (directory / _NAME).replace(directory / f"{_NAME}.before-{identity}")
    write_atomically(directory / _NAME, msgspec.json.encode(volume))
    return volume
