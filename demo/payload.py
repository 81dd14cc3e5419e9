"""The distributed file, which is a real large file of this machine, and its origin."""

import asyncio
import hashlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from testbed.origin import File, Origin

SMALLEST = 100_000_000
"""The least size in bytes. Smaller files are distributed too fast to watch."""

_LARGEST = 400_000_000
"""The largest size in bytes. The disk must have room for four more copies."""

_FOLDERS = ("/usr/bin", "/usr/lib", "/usr/local/bin", "/usr/local/lib", "/opt")
_SEARCH_SECONDS = 2.0
_GENERATED = 128 * 1024 * 1024
_BLOCK = 1024 * 1024


@dataclass(frozen=True)
class Payload:
    """One file with its size and digest."""

    path: Path
    size: int
    sha256: str
    generated: bool = False


def choose(preferred: Sequence[Path], folder: Path) -> Payload:
    """The largest suitable file of ``preferred`` or of this machine, or else a file that is generated in ``folder``."""
    fitting = [path for path in preferred if _fits(path)] or [path for path in _search() if _fits(path)]
    generated = not fitting
    path = _generate(folder / "generated.bin") if generated else max(fitting, key=lambda path: path.stat().st_size)
    return Payload(path, path.stat().st_size, sha256(path), generated)


def sha256(path: Path) -> str:
    """The hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ServedPayload:
    """An HTTP origin for one file, in its own thread, with an access log."""

    def __init__(self, payload: Payload, host: str, rate: float | None) -> None:
        self.payload = payload
        self._path = f"/{payload.path.name}"
        self._origin = Origin(host)
        self._origin.rate = rate
        self._origin.serve(self._path, File(payload.path))
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="origin", daemon=True)

    @property
    def url(self) -> str:
        """The file's URL."""
        return self._origin.url(self._path)

    @property
    def sent(self) -> int:
        """Body bytes that were sent so far, over all answers."""
        return self._origin.body_bytes(self._path)

    @property
    def requests(self) -> int:
        """The number of answers with a body."""
        return sum(access.sent > 0 for access in self._origin.requests(self._path))

    def __enter__(self) -> Self:
        self._thread.start()
        self._up.wait()
        if self._error is not None:
            raise self._error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(2)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        try:
            async with self._origin:
                self._up.set()
                await self._stop.wait()
        except OSError as error:
            self._error = error
        finally:
            self._up.set()


def _search() -> Iterator[Path]:
    """Search for files where programs and libraries are, for at most two seconds."""
    deadline = time.monotonic() + _SEARCH_SECONDS
    for top in _FOLDERS:
        for folder, _, names in os.walk(top):
            if time.monotonic() > deadline:
                return
            yield from (Path(folder) / name for name in names)


def _fits(path: Path) -> bool:
    try:
        return path.is_file() and os.access(path, os.R_OK) and SMALLEST <= path.stat().st_size <= _LARGEST
    except OSError:
        return False


def _generate(path: Path) -> Path:
    with path.open("wb") as file:
        for _ in range(_GENERATED // _BLOCK):
            file.write(os.urandom(_BLOCK))
    return path
