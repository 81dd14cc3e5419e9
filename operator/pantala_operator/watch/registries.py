"""Registries are asked about images, through the supernodes: a bounded number at once, until there is an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

import structlog

from pantala_operator.backoff import Backoff
from pantala_operator.errors import SupernodeCallError, SupernodeUnavailableError
from pantala_operator.plan.prefetch import wire
from pantala_operator.plan.prefetch.pins import Resolution
from pantala_operator.ports import Clock
from pantala_operator.resources.prefetch import ImageKey
from pantala_operator.supernodes.view import SupernodeOverview
from pantala_protocol import image, membership, task_id
from pantala_protocol.registry import Resolve, Resolved

log = structlog.get_logger(__name__)

_AT_ONCE = 4
"""Questions under way at once."""

Ask = Callable[[str, Resolve], Awaitable[Resolved]]
"""Asks through the supernode of that name."""


@dataclass(frozen=True, slots=True)
class ResolveRequest:
    """One question."""

    uid: str
    """Who wants to know."""
    key: ImageKey
    question: Resolve
    former: Resolution | None = None


class ImageResolver:
    """Asks until cancelled; ``answered`` is called with the UID, the image and what its registry said."""

    def __init__(
        self,
        supernodes: SupernodeOverview,
        clock: Clock,
        ask: Ask,
        answered: Callable[[str, ImageKey, Resolution], None],
    ) -> None:
        """Ask nothing yet."""
        self._supernodes = supernodes
        self._clock = clock
        self._ask = ask
        self._answered = answered
        self._inbox: asyncio.Queue[ResolveRequest] = asyncio.Queue()
        self._busy: dict[tuple[str, ImageKey], asyncio.Task[None] | None] = {}
        self._room = asyncio.Semaphore(_AT_ONCE)

    def put(self, asked: ResolveRequest) -> None:
        """Ask, unless that is being asked already."""
        if (asked.uid, asked.key) not in self._busy:
            self._busy[asked.uid, asked.key] = None
            self._inbox.put_nowait(asked)

    def forget(self, uid: str) -> None:
        """Nobody wants to know any more."""
        for each in [each for each in self._busy if each[0] == uid]:
            task = self._busy[each]
            if task is not None:
                task.cancel()

    async def run(self) -> None:
        """Ask, for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                asked = await self._inbox.get()
                self._busy[asked.uid, asked.key] = group.create_task(self._until_answered(asked))

    async def _until_answered(self, asked: ResolveRequest) -> None:
        backoff = Backoff(1, 30)
        try:
            while True:
                async with self._room:
                    when = self._clock.now()
                    said = await self._once(asked)
                if said is not None:
                    break
                await backoff.pause()
        finally:
            del self._busy[asked.uid, asked.key]
        self._answered(asked.uid, asked.key, self._resolution(asked, said, when))

    def _resolution(self, asked: ResolveRequest, said: Resolved, when: datetime) -> Resolution:
        failures = asked.former.tries if asked.former is not None and not asked.former.digest else 0
        return wire.resolution(said, asked.question.platforms, when, self._clock.now(), failures)

    async def _once(self, asked: ResolveRequest) -> Resolved | None:
        name = self._whom(asked.key)
        try:
            if name is None:
                raise SupernodeUnavailableError(self._supernodes.away or "no supernode can be asked")
            return await self._ask(name, asked.question)
        except SupernodeCallError as error:
            log.warning(
                "A supernode could not ask a registry; it is tried again",
                supernode=name, image=asked.key.reference, error=str(error),
            )  # fmt: skip
            return None

    def _whom(self, key: ImageKey) -> str | None:
        """The supernode that asks this repository's registry for the peers, too; if it is away, any other."""
        views = self._supernodes.views
        speaking = [each.name for each in self._supernodes.members if not views[each.name].silent]
        staying = {each.name for each in self._supernodes.members if not each.leaving}
        named = task_id.compute(image.parse(key.reference).name)
        return membership.owner(named, [name for name in speaking if name in staying] or speaking)
