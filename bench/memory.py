"""Keeps files in memory, because on a common disk the measured processes would wait for each other."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.errors import BenchError
from testbed.cluster.command import run

MEBIBYTE = 1024 * 1024
GIBIBYTE = 1024 * MEBIBYTE
_SHARED = Path("/dev/shm")
_RESERVE = 512 * MEBIBYTE
"""Memory that the processes themselves need."""


@contextmanager
def memory(size: int) -> Iterator[Path]:
    """A temporary folder in memory, with room for ``size`` bytes. Raises :class:`BenchError` if they are not free.

    As root it is a file system of its own, otherwise a folder of ``/dev/shm``.
    """
    free = available()
    if os.geteuid() != 0:
        free = min(free, shutil.disk_usage(_SHARED).free if _SHARED.is_dir() else 0)
    if free < size + _RESERVE:
        raise BenchError(
            f"The machine has {free >> 20} MiB of memory free, but {(size + _RESERVE) >> 20} are needed. "
            "Give a smaller size."
        )
    if os.geteuid() != 0:
        with tempfile.TemporaryDirectory(prefix="pantala-bench-", dir=_SHARED) as name:
            Path(name).chmod(0o755)  # the workers of nginx may run as another user
            yield Path(name)
        return
    with tempfile.TemporaryDirectory(prefix="pantala-bench-") as name:
        Path(name).chmod(0o755)
        run("mount", "-t", "tmpfs", "-o", f"size={size + _RESERVE},mode=0755", "pantala-bench", name)
        try:
            yield Path(name)
        finally:
            run("umount", "--lazy", name, check=False)


@contextmanager
def own_folder(folder: Path) -> Iterator[Path]:
    """A folder for one run below ``folder``."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="run-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def touch(folder: Path, size: int) -> None:
    """Use ``size`` bytes of the folder's file system once. Some virtual machines give fresh memory only slowly."""
    path = folder / "touched"
    block = bytes(MEBIBYTE)
    try:
        with path.open("wb") as file:
            for _ in range(size // MEBIBYTE):
                file.write(block)
    finally:
        path.unlink(missing_ok=True)


def make_file(path: Path, size: int) -> str:
    """Write random bytes and return their sha256 in hex."""
    state = hashlib.sha256()
    with path.open("wb") as file:
        for begin in range(0, size, MEBIBYTE):
            block = os.urandom(min(MEBIBYTE, size - begin))
            file.write(block)
            state.update(block)
    return state.hexdigest()


def check(path: Path, sha256: str) -> None:
    """Raise :class:`BenchError` unless the file has this digest."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise BenchError(f"{path} has the sha256 {found} instead of {sha256}.")


def available() -> int:
    """Bytes of memory that programs can get now."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
