"""A small filesystem for tests with a full disk. Needs root."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(directory: Path, size: int) -> Iterator[Path]:
    """Mount a filesystem of ``size`` bytes at ``directory`` inside the block. Skip the test if only root could."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    with mounted(directory, size):
        yield directory


@contextmanager
def mounted(directory: Path, size: int) -> Iterator[Path]:
    """Mount a filesystem of ``size`` bytes at ``directory`` inside the block."""
    directory.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)], check=True, timeout=20)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True, timeout=20)


def resize(disk: Path, size: int) -> None:
    remount(disk, f"size={size}")


def remount(disk: Path, options: str) -> None:
    """Change the options of a mounted filesystem, for example to ``ro`` or ``rw``."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True, timeout=20)


def disk_free(disk: Path) -> int:
    """The free bytes of a disk."""
    return shutil.disk_usage(disk).free
