"""``python -m faults.crash_point AT WHEN FOLDER MODULE ...`` runs a module that dies at its AT-th change of a disk.

Only calls for files below FOLDER count. WHEN is ``before``, ``after`` or ``inside`` the call. Inside a write, the
process writes half of the bytes and dies. The product needs no code for this.
"""

import os
import runpy
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

CALLS = (
    "pwrite", "write", "fdatasync", "fsync", "ftruncate", "posix_fallocate", "fchmod",
    "replace", "rename", "unlink", "link", "mkdir", "rmdir",
)  # fmt: skip
"""The functions of :mod:`os` with which the product changes a disk."""


class CrashPoint:
    """Counts the changes of the disk, and kills the process at one of them."""

    def __init__(self, at: int, when: str, folder: Path) -> None:
        self._at = at
        self._when = when
        self._folder = str(folder.resolve())
        self._seen = 0
        self._lock = threading.Lock()

    def install(self) -> None:
        for name in CALLS:
            setattr(os, name, self._wrapped(name, getattr(os, name)))

    def _wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            if not self._is_ours(arguments[0], options):
                return call(*arguments, **options)
            with self._lock:
                self._seen += 1
                due = self._seen == self._at
            if not due:
                return call(*arguments, **options)
            if self._when == "after":
                call(*arguments, **options)
            elif self._when == "inside" and name in ("pwrite", "write"):
                half = memoryview(arguments[1])[: len(arguments[1]) // 2]
                call(arguments[0], half, *arguments[2:], **options)
            os.kill(os.getpid(), signal.SIGKILL)
            raise SystemExit  # never reached

        return counted

    def _is_ours(self, target: Any, options: dict[str, Any]) -> bool:
        try:
            if isinstance(target, int):
                path = str(Path(f"/proc/self/fd/{target}").readlink())
            elif (folder := options.get("src_dir_fd") or options.get("dir_fd")) is not None:
                path = str(Path(f"/proc/self/fd/{folder}").readlink() / os.fspath(target))
            else:
                path = os.fspath(target)
        except OSError:
            return False
        return str(path).startswith(self._folder)


def main(arguments: list[str]) -> None:
    at, when, folder, module, *rest = arguments
    CrashPoint(int(at), when, Path(folder)).install()
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
