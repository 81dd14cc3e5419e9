"""Pauses between attempts, which double up to a limit, and waits for an event with a time limit."""

import asyncio
import contextlib
import random


def doubled(first: float, longest: float, failures: int) -> float:
    """Seconds to wait after ``failures`` failures in a row: ``first``, then twice as long each time."""
    return min(first * 2.0 ** min(max(failures - 1, 0), 64), longest)


async def pause_until(event: asyncio.Event, seconds: float | None) -> bool:
    """Wait until ``event`` is set, for at most ``seconds``. Returns whether it is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


class Backoff:
    """Doubling pauses with jitter, from ``first`` to ``longest`` seconds."""

    def __init__(self, first: float, longest: float, rng: random.Random | None = None) -> None:
        self._first = first
        self._longest = longest
        self._rng = rng or random.Random()  # noqa: S311 - it spreads attempts; it protects nothing
        self._failures = 0

    def reset(self) -> None:
        self._failures = 0

    def next(self) -> float:
        """Count a failure. Returns between half of the pause and the pause, so clients retry at different times."""
        self._failures += 1
        return doubled(self._first, self._longest, self._failures) * self._rng.uniform(0.5, 1)

    async def pause(self) -> None:
        """Count a failure, and sleep for :meth:`next` seconds."""
        await asyncio.sleep(self.next())
