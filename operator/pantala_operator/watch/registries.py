"""Asks image registries through the supernodes, until each question has an answer. A few questions run at once."""

import asyncio
from dataclasses import dataclass

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

_AT_ONCE = 4
"""The number of questions under way at once."""


@dataclass(frozen=True, slots=True)
class ResolveRequest:
    """One question to a registry about one image."""

    uid: str
    """The UID of the ImagePrefetch or Task that needs the answer."""
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
        self._busy: dict[tuple[str, ImageKey], asyncio.Task[None] | None] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    def put(self, request: ResolveRequest) -> None:
        """Ask, unless the same question is under way."""
        if (request.uid, request.key) not in self._busy:
            self._busy[request.uid, request.key] = None
            self._inbox.put_nowait(request)

    def forget(self, uid: str) -> None:
        """Cancel the questions of a deleted object."""
        for task in [task for each, task in self._busy.items() if each[0] == uid]:
            if task is not None:
                task.cancel()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                request = await self._inbox.get()
                self._busy[request.uid, request.key] = group.create_task(self._until_answered(request))

    async def _until_answered(self, request: ResolveRequest) -> None:
        backoff = Backoff(1, 30)
        try:
            while True:
                async with self._slots:
                    asked_at = self._clock.now()
                    answer = await self._once(request)
                if answer is not None:
                    break
                await backoff.pause()
        finally:
            del self._busy[request.uid, request.key]
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
        """The supernode that owns the repository, or any reachable supernode.

        The owner asks the registry for peers too.
        """
        views = self._supernodes.views
        reachable = [each.name for each in self._supernodes.members if not views[each.name].silent]
        staying = {each.name for each in self._supernodes.members if not each.leaving}
        repository = task_id.compute(image.parse(key.reference).name)
        return owner_among(repository, [name for name in reachable if name in staying] or reachable)
