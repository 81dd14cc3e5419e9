"""The end of a supernode that is to go: first its tasks find their new owners."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from pantala_supernode.replicas.membership import Members

_log = structlog.get_logger(__name__)

_WORD = 5.0
"""Seconds in which the operator says that this supernode leaves: it looks every two. A plain restart costs as much."""
_LOOK = 0.1
"""Seconds between two looks."""


class Handover:
    """Waits for what is still to be given away. ``is_over`` tells whether that is nothing, any more."""

    def __init__(self, members: Members, is_over: Callable[[], bool], *, patience: float) -> None:
        self._members = members
        self._is_over = is_over
        self._patience = patience

    async def wait(self, at_once: asyncio.Event) -> None:
        """Wait until the supernode may end: right now if nobody takes its place, or ``at_once``, whatever is left."""
        if self._members.may_leave:
            await self._until(lambda: self._members.leaving, _WORD, at_once)
        if not self._members.leaving or at_once.is_set():
            return
        _log.info("leaving: serving until the tasks have moved")
        if await self._until(self._is_over, self._patience, at_once):
            _log.info("left: nothing is wanted of this supernode any more")
        else:
            _log.warning("left before all tasks had moved; their new owners go on at the origin")

    async def _until(self, condition: Callable[[], bool], seconds: float, at_once: asyncio.Event) -> bool:
        deadline = time.monotonic() + seconds
        while not condition():
            if at_once.is_set() or time.monotonic() >= deadline:
                return False
            await asyncio.sleep(_LOOK)
        return True
