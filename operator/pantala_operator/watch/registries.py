"""Asks image registries through the supernodes, until each question has an answer. A few questions run at once."""

import asyncio
from dataclasses import dataclass
from weakref import WeakValueDictionary

import structlog

from pantala_operator.errors import SupernodeCallError, SupernodeUnavailableError
from pantala_operator.events import ImageResolved, OperatorEvents
from pantala_operator.plan.prefetch import pins
from pantala_operator.plan.prefetch.inputs import RegistryAnswer
from pantala_operator.ports import Clock
from pantala_operator.resources.prefetch import ImageKey
from pantala_operator.supernodes.connections import SupernodeClients
from pantala_operator.supernodes.view import SupernodeOverview
from pantala_process.backoff import Backoff
from pantala_protocol import image, task_id
from pantala_protocol.registry import Resolve, Resolved
from pantala_protocol.statement import owner_among

log = structlog.get_logger(__name__)

_AT_ONCE, _EACH = 32, 4
"""The number of questions under way at once: in all, and of one namespace. A registry may take a minute to answer."""


@dataclass(frozen=True, slots=True)
class ResolveRequest:
    """One question to a registry about one image."""

    uid: str
    """The UID of the ImagePrefetch or Task that needs the answer."""
    namespace: str
    """The namespace of that object."""
    key: ImageKey
    question: Resolve
    former: RegistryAnswer | None = None


class ImageResolver:
    """Asks each question until it is answered, and publishes ``ImageResolved`` with each answer."""

    def __init__(
        self, supernodes: SupernodeOverview, clients: SupernodeClients, events: OperatorEvents, clock: Clock
    ) -> None:
        self._supernodes = supernodes
        self._clients = clients
        self._events = events
        self._clock = clock
        self._inbox: asyncio.Queue[ResolveRequest] = asyncio.Queue()
        self._asked: dict[tuple[str, ImageKey], ResolveRequest] = {}
        self._tasks: dict[tuple[str, ImageKey], asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._shares: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        """The slots of each namespace."""

    def put(self, request: ResolveRequest) -> None:
        """Ask instead of the former question about the same image, unless both are equal."""
        place = request.uid, request.key
        if place in self._asked and self._asked[place].question == request.question:
            return
        self._cancel(place)
        self._asked[place] = request
        self._inbox.put_nowait(request)

    def forget(self, uid: str) -> None:
        """Cancel the questions of one object, because it is deleted, or because they are out of date."""
        for place in [each for each in self._asked if each[0] == uid]:
            self._cancel(place)

    def _cancel(self, place: tuple[str, ImageKey]) -> None:
        self._asked.pop(place, None)
        if (task := self._tasks.pop(place, None)) is not None:
            task.cancel()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                request = await self._inbox.get()
                if self._asked.get((request.uid, request.key)) is request:
                    self._tasks[request.uid, request.key] = group.create_task(self._until_answered(request))

    async def _until_answered(self, request: ResolveRequest) -> None:
        backoff, share = Backoff(1, 30), self._shares.setdefault(request.namespace, asyncio.Semaphore(_EACH))
        while True:
            async with share, self._slots:
                asked_at = self._clock.now()
                answer = await self._once(request)
            if answer is not None:
                break
            await backoff.pause()
        # Only here does the question end without being cancelled, so these are its own entries.
        del self._asked[request.uid, request.key], self._tasks[request.uid, request.key]
        former = request.former
        failures = former.tries if former is not None and not former.resolved.digest else 0
        taken = pins.answer(answer, request.question.platforms, asked_at, self._clock.now(), failures)
        self._events.publish(ImageResolved(request.uid, request.key, taken))

    async def _once(self, request: ResolveRequest) -> Resolved | None:
        name = self._supernode_for(request.key)
        try:
            if name is None:
                raise SupernodeUnavailableError(self._supernodes.away or "no supernode answers")
            return await self._clients.client(name).resolve(request.question)
        except SupernodeCallError as error:
            log.warning(
                "No supernode could ask the registry. The operator retries.",
                supernode=name, image=request.key.reference, error=str(error),
            )  # fmt: skip
            return None

    def _supernode_for(self, key: ImageKey) -> str | None:
        """The owner of the repository among the reachable supernodes. ``None``: no supernode is reachable.

        A supernode that leaves is chosen only if all reachable supernodes leave.
        """
        views = self._supernodes.views
        reachable = [each.name for each in self._supernodes.members if not views[each.name].silent]
        staying = {each.name for each in self._supernodes.members if not each.leaving}
        repository = task_id.compute(image.parse(key.reference).name)
        return owner_among(repository, [name for name in reachable if name in staying] or reachable)
