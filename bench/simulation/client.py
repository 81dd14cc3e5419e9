"""A peer's loop of exchanges: one is always under way, and news begins a second one after a pause."""

import asyncio
from collections.abc import Awaitable, Callable

from pantala_peer.sync.session import NodeState, SupernodeSession
from pantala_protocol.sync import SyncAnswer, SyncRequest

_AT_ONCE = 0.010
_LINGER = 0.25


class ExchangeLoop:
    """Sends a session's exchanges by ``sync``, and calls ``apply`` with each answer.

    ``hungry`` returns True if the peer waits for work. ``pace`` returns the seconds between two exchanges.
    """

    def __init__(
        self,
        session: SupernodeSession,
        node: NodeState,
        sync: Callable[[SyncRequest], Awaitable[SyncAnswer]],
        apply: Callable[[SyncAnswer], None],
        *,
        hungry: Callable[[], bool],
        pace: Callable[[], float],
    ) -> None:
        self._session = session
        self._node = node
        self._sync = sync
        self._apply = apply
        self._hungry = hungry
        self._pace = pace
        self._wake = asyncio.Event()
        self._begun_at = float("-inf")
        self._answered_at = float("-inf")
        self._tasks: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Check whether there is news for a new exchange."""
        self._wake.set()

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            if not self._session.may_begin:
                await self._wake.wait()
                continue
            until = self._begun_at + (_AT_ONCE if self._hungry() else self._pace())
            if self._session.idle and not self._session.has_news and self._node.busy():
                until = max(until, self._answered_at + _LINGER)
            pause = until - loop.time()
            if pause > 1e-9:
                handle = loop.call_later(pause, self._wake.set)
                await self._wake.wait()
                handle.cancel()
                continue
            self._begun_at = loop.time()
            task = loop.create_task(self._exchange(self._session.begin(self._node)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _exchange(self, request: SyncRequest) -> None:
        answer = await self._sync(request)
        self._answered_at = asyncio.get_running_loop().time()
        self._apply(self._session.answered(request.seq, answer))
        self.wake()
