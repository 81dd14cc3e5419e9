"""The scrub verifies whole files in the background: each file soon after it is complete, then once a week.

The scrub has one thread of low priority, which is busy at most half of the time. It waits while the process is busy.
"""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import NamedTuple, Protocol

import structlog

from pantala_pieces.errors import StoreError
from pantala_pieces.file import PieceFile
from pantala_pieces.verification import FileVerdict, Finding, VerificationPass
from pantala_process.backoff import pause_until
from pantala_protocol import ranges

INTERVAL = 7 * 86400.0
"""Seconds between two verifications of a file."""
_LOOK = 3600.0
"""The most seconds between two searches for files that are due."""
_RETRY = 60.0
"""Seconds from a pass that failed or found damage until the same file may be due again."""
_PAUSE = 0.5
"""Seconds between two checks whether the process is still busy."""
_PATIENCE = 3600.0
"""The most seconds that a pass waits for an idle process, because some processes are never idle."""
_NICE = 10
"""How much the scrub's nice value exceeds that of other threads. With a still lower priority, a busy machine could stop
the thread while it holds Python's lock."""

log = structlog.get_logger(__name__)


class ScrubCandidate(NamedTuple):
    """A whole file that the scrub may verify."""

    file: PieceFile
    digest: str
    """The digest that the file must have, as ``sha256:`` and hex digits."""
    checked: float
    """When the file was last verified, in seconds since the epoch. 0: never."""
    pressing: bool = False
    """True if the file was changed. The scrub then does not wait until the process is idle."""


class ScrubFiles(Protocol):
    """The files that a scrub verifies. A file is *in service* while the process relies on its bytes."""

    def candidates(self) -> Iterable[ScrubCandidate]:
        """All whole files in service."""

    def serves(self, file: PieceFile, digest: str) -> bool:
        """True while the file is in service with this digest."""

    async def conclude(self, file: PieceFile, digest: str, finding: Finding) -> None:
        """Record a finding, and take a wrong file out of service. May raise :class:`StoreError`."""


class Scrub:
    """Verifies the files of one store. It pauses while ``busy`` is true. ``wall`` is in seconds since the epoch."""

    def __init__(
        self,
        files: ScrubFiles,
        *,
        busy: Callable[[], bool],
        interval: float = INTERVAL,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.damaged = 0
        """The number of damaged files that this scrub has found."""
        self._files = files
        self._busy = busy
        self._interval = interval
        self._wall = wall
        self._sleep = sleep
        self._woken = asyncio.Event()
        self._resting: dict[str, float] = {}
        self._patience = _PATIENCE
        """How many more seconds the scrub waits for an idle process. Each finished pass resets it."""

    def wake(self) -> None:
        """Look for files that are due now, because a file became complete or was changed."""
        self._woken.set()

    async def run(self, on_damage: Callable[[str], None] = lambda _: None) -> None:
        """Verify files until cancelled. Call ``on_damage`` with the task of each wrong file."""
        with _lowly_thread() as thread:
            while True:
                self._woken.clear()
                due, rest = self._due()
                for candidate in due:
                    await self._verify(candidate, thread, on_damage)
                    if self._woken.is_set():
                        break  # a more urgent file may be due
                if not due:
                    await pause_until(self._woken, rest)

    def _due(self) -> tuple[list[ScrubCandidate], float]:
        """The files to verify now, the most urgent first, and the seconds until another file is due."""
        now, rest, due = self._wall(), min(_LOOK, self._interval), []
        # A time that lies too far ahead was noted before the clock was set back. It does not count.
        self._resting = {name: until for name, until in self._resting.items() if now < until <= now + _RETRY}
        for candidate in self._files.candidates():
            at = self._resting.get(candidate.file.meta.task_id, 0.0)
            if 0 < candidate.checked <= now and not candidate.pressing:
                at = max(at, candidate.checked + self._interval)
            if at <= now:
                due.append(candidate)
            else:
                rest = min(rest, at - now)
        return sorted(due, key=lambda candidate: (not candidate.pressing, candidate.checked)), rest

    async def _verify(self, candidate: ScrubCandidate, thread: Executor, on_damage: Callable[[str], None]) -> None:
        file, digest = candidate.file, candidate.digest
        name = file.meta.task_id
        try:
            finding = await self._pass(candidate, thread)
            if finding is None:
                return
            await self._files.conclude(file, digest, finding)
        except StoreError as error:
            log.warning("a file cannot be verified; trying again later", task=name, error=str(error))
            self._resting[name] = self._wall() + _RETRY
            return
        if finding.verdict is not FileVerdict.RIGHT:
            self.damaged += 1
            self._resting[name] = self._wall() + _RETRY
            log.error(
                "a file does not have its digest; this process fetches the listed pieces again, if any",
                task=name,
                verdict=finding.verdict.name,
                pieces=ranges.render(finding.wrong),
            )
            on_damage(name)

    async def _pass(self, candidate: ScrubCandidate, thread: Executor) -> Finding | None:
        """Verify a file in steps. ``None``: the file is no longer in service, or another file may be more urgent."""
        loop = asyncio.get_running_loop()
        verification = VerificationPass(candidate.file, candidate.digest)
        while True:
            while not candidate.pressing and self._patience > 0 and self._busy():
                if self._woken.is_set():
                    return None
                self._patience -= _PAUSE
                await self._sleep(_PAUSE)
            if not self._files.serves(candidate.file, candidate.digest):
                self._patience = _PATIENCE
                return None
            begun = loop.time()
            finding = await loop.run_in_executor(thread, verification.step)
            if finding is not None:
                self._patience = _PATIENCE
                return finding
            await self._sleep(loop.time() - begun)


@contextlib.contextmanager
def _lowly_thread() -> Iterator[Executor]:
    """One thread of low priority. It starts with its first job."""
    thread = ThreadPoolExecutor(1, "scrub", initializer=_lower_priority)
    try:
        yield thread
    finally:
        thread.shutdown(wait=False, cancel_futures=True)


def _lower_priority() -> None:
    """Lower the priority of the calling thread only. On Linux, each thread has its own priority."""
    with contextlib.suppress(OSError):
        own = os.getpriority(os.PRIO_PROCESS, 0)
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(own + _NICE, 19))
