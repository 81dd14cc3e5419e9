"""Sends exchanges to one supernode. An exchange has several reports. The supernode holds an idle peer's exchange.

A usual exchange needs two calls by the event loop: the first sends the request, and the second handles the answer. A
task or a future would add a turn of the loop for each step. Only errors and new connections need tasks.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator
from functools import partial

import structlog

from pantala_peer.errors import ExchangeError, ExchangeRefusedError
from pantala_peer.sync.connection import SyncConnection
from pantala_peer.sync.pace import Pace
from pantala_peer.sync.session import NodeState, SupernodeSession
from pantala_process.backoff import Backoff
from pantala_protocol.sync import SyncAnswer, SyncRequest

_QUIET = 0.5
"""Seconds to wait after the supernode answered at once and without content, so that the peer does not poll."""

_LINGER = 0.25
"""Seconds of delay for an exchange without reports while all download slots are busy. New work cannot begin before a
download ends, and its end is a report. A supernode waits far longer before it considers a peer silent."""

_FEW = 2
"""If fewer pieces are left to fetch, the peer reports at once, because it will soon have no work."""

_BACKOFF = (0.2, 5.0)
"""Seconds before the second attempt, and the maximum. The pause doubles each time, and half of it is random."""

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
        """The event loop's time of the last answer."""
        self.exchanges = 0
        """The number of exchanges that were begun."""
        self._session = session
        self._connection = connection
        self._node = node
        self._apply = apply
        self._backoff = Backoff(*_BACKOFF, rng)
        self._pace = Pace()
        self._running: asyncio.Future[None] | None = None
        """Done when no further exchange begins, or after a bug. ``None`` outside of :meth:`run`."""
        self._slow: asyncio.TaskGroup
        """The exchanges that need a new connection or another attempt."""
        self._sent = 0
        """The number of exchanges under way without a task."""
        self._taking = False
        self._step: asyncio.Handle | None = None
        self._planned: float | None = None
        """When the next exchange begins if nothing changes. 0.0: in the next turn of the loop."""
        self._retired = False
        self._failing = False
        self._quiet_until = float("-inf")

    @property
    def interval(self) -> float:
        """The usual seconds between two exchanges with reports."""
        return self._pace.interval

    def wake(self, *, at_once: bool = False) -> None:
        """Plan the next exchange again, because there is something to report.

        If the exchange is due, it begins in the next turn of the loop, with all reports until then, or ``at_once``.
        """
        if self._running is None or self._taking:
            return
        if at_once:
            with self._bugs_end_the_run():
                self._advance()
        else:
            now = asyncio.get_running_loop().time()
            self._plan(self._next(now), now)

    def retire(self) -> None:
        """Begin no further exchange. An open exchange may still bring work, which the supernode counts as given."""
        self._retired = True
        self.wake()

    async def run(self) -> None:
        """Open a connection, and exchange until cancelled or retired."""
        async with self._connection, asyncio.TaskGroup() as self._slow:
            running = self._running = asyncio.get_running_loop().create_future()
            try:
                self._advance()
                await running
            finally:
                self._running = None
                self._plan_at(None)

    async def leave(self) -> None:
        """After :meth:`run` was cancelled: report that this process ends, in one short attempt."""
        request = self._session.begin(self._node, leaving=True)
        async with self._connection:
            with contextlib.suppress(ExchangeError, TimeoutError):
                async with asyncio.timeout(_FAREWELL):
                    await self._connection.sync(request)

    # The plan

    def _on_time(self) -> None:
        self._step = self._planned = None
        with self._bugs_end_the_run():
            self._advance()

    def _advance(self) -> None:
        """Begin all exchanges that are due, and plan the next one."""
        if self._running is None:
            return
        time = asyncio.get_running_loop().time
        now = time()
        while (begin_at := self._next(now)) is not None and begin_at <= now:
            self._begin(now)
            now = time()
        self._plan(begin_at, now)

    def _plan(self, begin_at: float | None, now: float) -> None:
        self._plan_at(0.0 if begin_at is not None and begin_at <= now else begin_at)
        if self._retired and not self._sent and self._running is not None and not self._running.done():
            self._running.set_result(None)

    def _plan_at(self, planned: float | None) -> None:
        if planned == self._planned:
            return
        if self._step is not None:
            self._step.cancel()
        loop = asyncio.get_running_loop()
        self._planned = planned
        if planned is None:
            self._step = None
        else:
            self._step = loop.call_at(planned, self._on_time) if planned else loop.call_soon(self._on_time)

    def _next(self, now: float) -> float | None:
        """When the next exchange begins, if nothing changes until then. ``None``: not before something changes."""
        session, node = self._session, self._node
        if self._retired or not session.may_begin:
            return None
        left = node.left()
        if session.has_urgent_news:
            return self._pace.earliest(now, urgent=True)
        if session.has_news:
            return self._pace.earliest(now, early=left < _FEW or session.has_failures)
        lingers_until = self.answered_at + _LINGER if node.busy() else now
        return max(self._pace.earliest(now, early=left < _FEW), self._quiet_until, lingers_until)

    # Exchanges

    def _begin(self, now: float) -> None:
        self._pace.begin(now)
        self.exchanges += 1
        request = self._session.begin(self._node)
        if self._connection.send(request, partial(self._on_end, request, now)):
            self._sent += 1
        else:
            self._slow.create_task(self._exchange(request, now))

    def _on_end(self, request: SyncRequest, begun_at: float, end: SyncAnswer | ExchangeError | None) -> None:
        """Handle the answer or error of an exchange on a kept connection. ``None``: send the exchange again at once."""
        self._sent -= 1
        if self._running is None:
            return
        with self._bugs_end_the_run():
            if isinstance(end, SyncAnswer):
                self._take(request, end, begun_at)
            else:
                self._slow.create_task(self._exchange(request, begun_at, end))
            self._advance()

    async def _exchange(self, request: SyncRequest, begun_at: float, error: ExchangeError | None = None) -> None:
        """Send an exchange until the supernode answers or refuses it. ``error`` comes from an earlier attempt."""
        sent_at = begun_at
        while error is None or await self._may_repeat(request, error, sent_at):
            sent_at = asyncio.get_running_loop().time()
            try:
                answer = await self._connection.sync(request)
            except ExchangeError as failure:
                error = failure
            else:
                self._take(request, answer, begun_at)
                break
        self._advance()

    async def _may_repeat(self, request: SyncRequest, error: ExchangeError, sent_at: float) -> bool:
        """Pause after an error. False if the exchange must not be sent again."""
        if self._retired:
            return False
        await self._back_off(error, sent_at)
        if isinstance(error, ExchangeRefusedError):
            self._session.abandon(request.seq)
            return False
        return True

    def _take(self, request: SyncRequest, answer: SyncAnswer, begun_at: float) -> None:
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
        elif now - begun_at < _QUIET and self._session.is_latest(request.seq):
            self._quiet_until = now + _QUIET  # a supernode answers an older exchange at once when a newer one arrives
        self._taking = True  # ``apply`` may report several times; the caller plans once after it
        try:
            self._apply(orders)
        finally:
            self._taking = False

    async def _back_off(self, error: ExchangeError, sent_at: float) -> None:
        if self.answered_at <= sent_at:  # otherwise the supernode has answered another exchange since then
            if not self._failing:
                log.warning(
                    "an exchange failed; the peer tries again. Check --supernode, and that the supernode runs",
                    error=str(error),
                )
            self.error, self._failing = str(error), True
        await self._backoff.pause()

    @contextlib.contextmanager
    def _bugs_end_the_run(self) -> Iterator[None]:
        """Raise a callback's error in :meth:`run`. Otherwise, the event loop would only log it."""
        try:
            yield
        except Exception as bug:
            if self._running is None or self._running.done():
                raise
            self._running.set_exception(bug)
