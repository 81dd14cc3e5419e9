"""Evicts unwanted copies: because of their age, if the volume is too full, or if another copy needs room."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

import structlog

from pantala_pieces.errors import StoreError
from pantala_pieces.store import PieceStore
from pantala_pieces.usage import Usage
from pantala_protocol.task_id import TaskID
from pantala_supernode.errors import SupernodeError
from pantala_supernode.volume.eviction import EvictionCause, Housekeeping, Unwanted, aged, least_recently_used

_log = structlog.get_logger(__name__)

_TICK = 1.0
"""Seconds between two checks of the volume."""
_STAMP = 60.0
"""Seconds between two writes of the copies' times of last use. A crash loses at most the changes of this time."""
_SILENCE = 600.0
"""Seconds without a statement after which any copy may be evicted for room. The operator may still want the copy."""


_CALM = 600.0
"""A full volume is logged once. It is logged again only after the volume had room for this many seconds."""


class Janitor:
    """Evicts copies that no task wants, with ``delete``.

    Before the operator's first statement (``stated``), it is not known which copies are wanted. Until then, only
    ``released`` copies are evicted: those that a task has wanted since the start, and that no task wants now. Other
    copies are evicted only if room is needed and no statement has arrived for long.

    ``spare`` ends one lease that no reader needs. That frees no copy that is ``claimed``, because a Task resource
    wants it. ``clock`` returns monotonic seconds, and ``wall`` seconds since the epoch.
    """

    def __init__(
        self,
        store: PieceStore,
        delete: Callable[[TaskID], Awaitable[None]],
        *,
        wanted: Callable[[TaskID], bool],
        released: Callable[[TaskID], bool],
        stated: Callable[[], bool],
        rules: Housekeeping,
        spare: Callable[[], bool] = lambda: False,
        claimed: Callable[[TaskID], bool] = lambda _: False,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.evictions: Counter[EvictionCause] = Counter()
        """Counts the evicted copies since the start, by cause."""
        self.usage: Usage | None = None
        """The room of the volume, as last measured. ``None``: not measured yet."""
        self._store = store
        self._delete = delete
        self._wanted = wanted
        self._released = released
        self._stated = stated
        self._rules = rules
        self._spare = spare
        self._claimed = claimed
        self._clock = clock
        self._wall = wall
        self._begun = clock()
        self._unwanted_since: dict[TaskID, float] = {}
        self._stamped = 0.0
        self._cramped = float("-inf")
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        try:
            while True:
                await asyncio.sleep(_TICK)
                await self.look()
        finally:
            self._stamp()

    async def look(self) -> None:
        self._take_note()
        async with self._turn:
            now, rules = self._clock(), self._rules
            lasting = [copy for copy in self._candidates() if now - self._unwanted_since[copy.task_id] >= rules.grace]
            await self._evict(aged(lasting, now=self._wall(), kept_for=rules.kept_for), EvictionCause.AGE)
            try:
                self.usage = await asyncio.to_thread(self._store.usage)
            except StoreError as error:
                _log.warning("cannot read how full the volume is", error=str(error))
                return
            if excess := rules.excess(self.usage):
                copies = await asyncio.to_thread(self._measured, self._candidates(pressing=True))
                await self._evict(least_recently_used(copies, excess), EvictionCause.DISK)
        if now - self._stamped >= _STAMP:
            self._stamped = now
            await asyncio.to_thread(self._stamp)

    async def make_room(self, size: int) -> bool:
        """Evict unwanted copies so that ``size`` bytes fit. If that cannot be enough, evict no copy.

        Returns True if a copy was evicted, so that a retry may succeed. Logs the first time that no room is left.
        """
        made = await self._make_room(size)
        if not made:
            if (now := self._clock()) - self._cramped >= _CALM:
                text = "the volume has no room for a file; delete Tasks, or enlarge the volume"
                _log.warning(text, volume=str(self._store.root), needed=size)
            self._cramped = now
        return made

    async def _make_room(self, size: int) -> bool:
        async with self._turn:
            try:
                usage = await asyncio.to_thread(self._store.usage)
            except StoreError:
                return False
            # An origin may announce any length, which must not evict all copies.
            if size > usage.total - usage.headroom:
                return False
            free = [Unwanted(name, 0.0) for file in self._store if not self._claimed(name := TaskID(file.meta.task_id))]
            sizes = {copy.task_id: copy.size for copy in await asyncio.to_thread(self._measured, free)}
            if size > usage.spare + sum(sizes.values()):  # the end of all leases would not help
                return False

            def candidates() -> list[Unwanted]:
                found = self._candidates(pressing=True)
                return [replace(copy, size=sizes[copy.task_id]) for copy in found if copy.task_id in sizes]

            # If the bytes alone would fit, their metadata did not.
            while not (copies := candidates()) or usage.spare + sum(copy.size for copy in copies) < max(size, 1):
                if not self._spare():
                    return False
                self._take_note()
            return await self._evict(least_recently_used(copies, max(size - usage.spare, 1)), EvictionCause.ROOM)

    def _take_note(self) -> None:
        """Set the time of the last use of all wanted copies. To be wanted counts as a use."""
        now, wall, unwanted = self._clock(), self._wall(), {}
        for file in self._store:
            task_id = TaskID(file.meta.task_id)
            if self._wanted(task_id):
                file.used = wall
            else:
                unwanted[task_id] = self._unwanted_since.get(task_id, now)
        self._unwanted_since = unwanted

    def _candidates(self, *, pressing: bool = False) -> list[Unwanted]:
        certain = self._stated() or (pressing and self._clock() - self._begun >= _SILENCE)
        return [
            Unwanted(task_id, file.used)
            for file in self._store
            if (task_id := TaskID(file.meta.task_id)) in self._unwanted_since
            and not self._wanted(task_id)
            and (certain or self._released(task_id))
        ]

    def _measured(self, copies: Iterable[Unwanted]) -> list[Unwanted]:
        files = ((copy, self._store.get(copy.task_id)) for copy in copies)
        return [replace(copy, size=file.allocated) for copy, file in files if file is not None]

    async def _evict(self, copies: Iterable[Unwanted], cause: EvictionCause) -> bool:
        evicted = False
        for copy in copies:
            if self._wanted(copy.task_id):  # since the choice, a task has begun to want the copy
                continue
            try:
                await self._delete(copy.task_id)
            except SupernodeError as error:
                _log.warning("cannot remove a copy from the volume; trying again", task=copy.task_id, error=str(error))
                continue
            evicted = True
            self.evictions[cause] += 1
            _log.info("removed a copy from the volume", task=copy.task_id, cause=cause.value, bytes=copy.size)
        return evicted

    def _stamp(self) -> None:
        for file in self._store:
            file.stamp()
