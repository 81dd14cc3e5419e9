"""The conversation with the supernode: always one exchange under way, a second one as soon as there is news."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Protocol

import structlog

from pantala_peer.errors import ExchangeError, ExchangeRefusedError
from pantala_peer.sync.session import Load, Orders, Session
from pantala_protocol.sync import Held, SyncAnswer, SyncRequest

_JOIN = 0.010
"""Seconds between the beginnings of two exchanges: what happens meanwhile is said at once."""

_QUIET = 0.5
"""Seconds to wait after an empty answer that was not held, so that a supernode that does not hold is not polled."""

_LINGER = 0.25
"""Seconds to wait with an exchange that has no news while all downloads run: nothing can be given before one of them
ends, and then there is news. It saves every second exchange. Far less than what a supernode takes for absence."""

_BACKOFF = (0.2, 5.0)
"""Seconds before the second try and, doubled each time, at most; half of it at random."""

_FAREWELL = 3.0
"""Seconds that taking leave may last."""

log = structlog.get_logger()


class Supernode(Protocol):
    """The port to the supernode."""

    async def sync(self, request: SyncRequest) -> SyncAnswer:
        """Send one exchange and wait for its answer. Raises :class:`ExchangeError`."""
        ...


class Exchange:
    """Keeps a session's exchanges going, for ever, whatever the supernode does.

    ``load``, ``inventory`` and ``busy`` (no more work can be begun) tell what is so now; ``obey`` is called with each
    answer's orders.
    """

    def __init__(
        self,
        session: Session,
        supernode: Supernode,
        *,
        load: Callable[[], Load],
        inventory: Callable[[], dict[str, Held]],
        busy: Callable[[], bool],
        obey: Callable[[Orders], None],
        rng: random.Random,
    ) -> None:
        self.error = "not asked yet"
        """Why the last exchange had no answer; empty when it had one."""
        self.answered_at = float("-inf")
        """When an answer came last, by the loop's clock."""
        self._session = session
        self._supernode = supernode
        self._load = load
        self._inventory = inventory
        self._busy = busy
        self._obey = obey
        self._rng = rng
        self._wake = asyncio.Event()
        self._retired = False
        self._failures = 0
        self._begun_at = float("-inf")
        self._quiet_until = float("-inf")

    def wake(self) -> None:
        """There may be news."""
        self._wake.set()

    def retire(self) -> None:
        """Begin no more exchanges; an answer that is under way is still taken, for what it gives is booked for us."""
        self._retired = True
        self.wake()

    async def run(self) -> None:
        """Exchange until cancelled or retired."""
        now = asyncio.get_running_loop().time
        async with asyncio.TaskGroup() as lanes:
            while not self._retired:
                self._wake.clear()
                pause = self._begun_at + _JOIN - now()
                if self._session.idle and not self._session.has_news:
                    lingers_until = self.answered_at + _LINGER if self._busy() else now()
                    pause = max(pause, self._quiet_until - now(), lingers_until - now())
                if not self._session.may_begin:
                    await self._wake.wait()
                elif pause > 0:
                    await self._sleep(pause)
                else:
                    self._begun_at = now()
                    lanes.create_task(self._converse(self._session.begin(self._load(), self._inventory)))

    async def leave(self) -> None:
        """Say, once :meth:`run` was cancelled, that this process goes; a supernode that does not hear it finds out."""
        request = self._session.begin(self._load(), self._inventory, leaving=True)
        with contextlib.suppress(ExchangeError, TimeoutError):
            async with asyncio.timeout(_FAREWELL):
                await self._supernode.sync(request)

    async def _sleep(self, seconds: float) -> None:
        """Wait, but not while there is more to say than before: only joining holds news back."""
        if seconds <= _JOIN:
            await asyncio.sleep(seconds)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _converse(self, request: SyncRequest) -> None:
        """Send one exchange until it is answered or refused."""
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        while True:
            asked_at = loop.time()
            try:
                answer = await self._supernode.sync(request)
            except ExchangeError as error:
                if self._retired:
                    break
                await self._back_off(error, asked_at)
                if isinstance(error, ExchangeRefusedError):
                    self._session.abandon(request.seq)
                    break
            else:
                self._take(request, answer, held=loop.time() - begun_at)
                break
        self.wake()

    def _take(self, request: SyncRequest, answer: SyncAnswer, *, held: float) -> None:
        now = asyncio.get_running_loop().time()
        if self.error:
            log.info("the supernode answers", supernode=answer.supernode)
        self.error, self.answered_at, self._failures = "", now, 0
        news = answer.supernode != self._session.supernode
        orders = self._session.answered(request.seq, answer)
        news = news or bool(orders.work) or orders.assignments is not None or orders.images is not None
        if news:
            self._quiet_until = now
        elif held < _QUIET and self._session.is_latest(request.seq):  # a newer one releases an older one at once
            self._quiet_until = now + _QUIET
        self._obey(orders)

    async def _back_off(self, error: ExchangeError, asked_at: float) -> None:
        if self.answered_at <= asked_at:  # else it has answered another exchange since then
            if not self.error or not self._failures:
                log.warning("the supernode does not answer; trying again until it does", error=str(error))
            self.error = str(error)
        first, most = _BACKOFF
        pause = min(first * 2 ** min(self._failures, 10), most)
        self._failures += 1
        await asyncio.sleep(pause * self._rng.uniform(0.5, 1.0))
