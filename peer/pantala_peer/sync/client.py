"""Sends exchanges to one supernode: reports are joined, and a peer without work has one exchange that is held."""

import asyncio
import contextlib
import math
import random
from collections.abc import Callable

import structlog

from pantala_peer.errors import ExchangeError, ExchangeRefusedError
from pantala_peer.sync.connection import SyncConnection
from pantala_peer.sync.pace import Pace
from pantala_peer.sync.session import NodeState, SupernodeSession
from pantala_process.backoff import Backoff
from pantala_protocol.sync import SyncAnswer, SyncRequest

_QUIET = 0.5
"""Seconds to wait if the supernode answers at once without content, so that the peer does not poll it."""

_LINGER = 0.25
"""Seconds of delay for an exchange without news while all download slots are busy. New work cannot begin before a
download ends, and that is news. A supernode waits far longer for an absent peer."""

_FEW = 2
"""With fewer pieces left to fetch, a peer reports at once, because it would soon have no work."""

_BACKOFF = (0.2, 5.0)
"""Seconds before the second attempt, and the maximum after doublings. Half of each pause is random."""

_FAREWELL = 3.0
"""Seconds for the last exchange, which reports that the process ends."""

log = structlog.get_logger()


class SyncClient:
    """Sends a session's exchanges until each is answered, and calls ``apply`` with each answer."""

    def __init__(
        self,
        session: SupernodeSession,
        connection: SyncConnection,
        node: NodeState,
        *,
        apply: Callable[[SyncAnswer], None],
        rng: random.Random,
    ) -> None:
        self.error: str | None = "the supernode has not answered since the peer started"
        """Why the last exchange failed. ``None`` if it was answered."""
        self.answered_at = float("-inf")
        """The loop's time of the last answer."""
        self.exchanges = 0
        """The number of exchanges that were begun."""
        self._session = session
        self._connection = connection
        self._node = node
        self._apply = apply
        self._backoff = Backoff(*_BACKOFF, rng)
        self._pace = Pace()
        self._woken = False
        self._waiting: asyncio.Future[None] | None = None
        self._planned = 0.0
        """When the next exchange begins if nothing changes."""
        self._retired = False
        self._failing = False
        self._quiet_until = float("-inf")

    @property
    def interval(self) -> float:
        """The usual seconds between two exchanges with reports."""
        return self._pace.interval

    def wake(self) -> None:
        """Check whether the next exchange must begin earlier than planned, because there is news."""
        self._woken = True
        if self._waiting is None or self._waiting.done():
            return
        begin_at = self._next(asyncio.get_running_loop().time())
        if self._retired or (begin_at is not None and begin_at < self._planned):
            self._waiting.set_result(None)

    def retire(self) -> None:
        """Begin no more exchanges. A running one may still bring work, which the supernode counts as given."""
        self._retired = True
        self.wake()

    async def run(self) -> None:
        """Open a connection, and exchange until cancelled or retired."""
        async with self._connection:
            await self._run()

    async def leave(self) -> None:
        """After :meth:`run` was cancelled: report that this process ends, in one short attempt."""
        request = self._session.begin(self._node, leaving=True)
        async with self._connection:
            with contextlib.suppress(ExchangeError, TimeoutError):
                async with asyncio.timeout(_FAREWELL):
                    await self._connection.sync(request)

    async def _run(self) -> None:
        now = asyncio.get_running_loop().time
        async with asyncio.TaskGroup() as exchanges:
            while not self._retired:
                self._woken = False
                begin_at = self._next(now())
                if begin_at is not None and begin_at <= now():
                    self._pace.begin(now())
                    self.exchanges += 1
                    exchanges.create_task(self._exchange(self._session.begin(self._node)))
                elif not self._woken:
                    await self._wait(math.inf if begin_at is None else begin_at)

    def _next(self, now: float) -> float | None:
        """When the next exchange begins, if nothing changes until then. ``None``: not before something changes."""
        session, node = self._session, self._node
        if not session.may_begin:
            return None
        left = node.left()
        if session.has_urgent_news:
            return self._pace.earliest(now, urgent=True)
        if session.has_news:
            return self._pace.earliest(now, early=left < _FEW or session.has_failures)
        lingers_until = self.answered_at + _LINGER if node.busy() else now
        return max(self._pace.earliest(now, early=left < _FEW), self._quiet_until, lingers_until)

    async def _wait(self, until: float) -> None:
        """Wait until a time, or until :meth:`wake` finds that an exchange must begin earlier."""
        loop = asyncio.get_running_loop()
        self._planned = until
        waiting = self._waiting = loop.create_future()
        timer = loop.call_at(until, _release, waiting) if until < math.inf else None
        try:
            await waiting
        finally:
            self._waiting = None
            if timer is not None:
                timer.cancel()

    async def _exchange(self, request: SyncRequest) -> None:
        """Send one exchange until it is answered or rejected."""
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        while True:
            sent_at = loop.time()
            try:
                answer = await self._connection.sync(request)
            except ExchangeError as error:
                if self._retired:
                    break
                await self._back_off(error, sent_at)
                if isinstance(error, ExchangeRefusedError):
                    self._session.abandon(request.seq)
                    break
            else:
                self._take(request, answer, held=loop.time() - begun_at)
                break
        self.wake()

    def _take(self, request: SyncRequest, answer: SyncAnswer, *, held: float) -> None:
        now = asyncio.get_running_loop().time()
        if self.error is not None:
            log.info("the supernode answers", supernode=answer.supernode)
        self.error, self.answered_at, self._failing = None, now, False
        self._backoff.reset()
        self._pace.slow_down(answer.pace)
        news = answer.supernode != self._session.supernode
        orders = self._session.answered(request.seq, answer)
        news = news or bool(orders.work) or orders.assignments is not None or orders.images is not None
        if news:
            self._quiet_until = now
        elif held < _QUIET and self._session.is_latest(request.seq):  # a newer exchange releases an older one at once
            self._quiet_until = now + _QUIET
        self._apply(orders)

    async def _back_off(self, error: ExchangeError, sent_at: float) -> None:
        if self.answered_at <= sent_at:  # otherwise the supernode has answered another exchange since then
            if not self._failing:
                log.warning("the supernode does not answer; trying again until it does", error=str(error))
            self.error, self._failing = str(error), True
        await self._backoff.pause()


def _release(waiting: "asyncio.Future[None]") -> None:
    if not waiting.done():
        waiting.set_result(None)
