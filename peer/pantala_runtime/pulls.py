"""Pulls: one an image at a time, shared by all who ask for it, stopped when nobody waits for it any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from pantala_protocol.image import ImageReference
from pantala_runtime.errors import DigestMismatchError, NotFoundError, TimedOutError, UnavailableError
from pantala_runtime.runtime import ContainerRuntime, Credentials

_HEEDED_AFTER = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds between looks at whether a pin is heeded: the runtime interface learns of it by an event."""


class Pulled(msgspec.Struct, frozen=True):
    """An image that is on this node."""

    digest: str
    """Of the index or the manifest that the name stands for."""
    bytes: int
    seconds: float
    """That the runtime took; next to nothing if the image was there."""
    pinned: bool


@dataclass(slots=True, eq=False)
class _Flight:
    credentials: Credentials | None
    task: asyncio.Task[Pulled]
    waiting: int = 0


class Pulls:
    """All pulls of one node. Errors are :class:`~pantala_runtime.errors.RequestError`."""

    def __init__(self, runtime: ContainerRuntime, clock: Callable[[], float]) -> None:
        self._runtime = runtime
        self._clock = clock
        self._flights: dict[str, _Flight] = {}
        self.pinning_heeded: bool | None = None
        """Whether the runtime did what a pin asks for, when one was last asked for; ``None``: not yet."""

    async def pull(
        self, image: ImageReference, credentials: Credentials | None = None, *, timeout: float, pin: bool = False
    ) -> Pulled:
        """Have ``image`` here, within ``timeout`` seconds. To cancel it stops the pull if nobody else waits for it."""
        try:
            async with asyncio.timeout(timeout):
                pulled = await self._share(str(image), image.digest, credentials)
                if pin:
                    pulled = msgspec.structs.replace(pulled, pinned=await self._pin(str(image)))
                return pulled
        except TimeoutError:
            raise TimedOutError(
                f"{image}: not here after {timeout:g} s; allow more time, or check the registry"
            ) from None

    async def name(self, image: ImageReference, name: ImageReference) -> None:
        """Let the tag ``name`` stand for ``image``, which is here; return when the runtime interface knows it."""
        await self._runtime.name(str(image), str(name))
        for pause in _HEEDED_AFTER:
            await asyncio.sleep(pause)
            found = await self._runtime.image(str(name))
            if found is not None and str(image) in found.digests:
                return
        raise UnavailableError(f"{name}: the runtime was told the name and does not show it; it is asked again")

    async def pin(self, image: ImageReference) -> bool:
        """Ask that the image stay when the disk fills; tell whether the runtime heeds it."""
        return await self._pin(str(image))

    async def unpin(self, image: ImageReference) -> None:
        """Let the kubelet remove the image when the disk fills."""
        await self._runtime.mark_pinned(str(image), pinned=False)

    async def close(self) -> None:
        """Stop all pulls."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _share(self, name: str, digest: str, credentials: Credentials | None) -> Pulled:
        while (flight := self._flights.get(name)) is not None:
            if flight.credentials == credentials and not flight.task.cancelling():
                break
            await asyncio.wait({flight.task})  # another's credentials prove nothing for these
        else:
            flight = _Flight(credentials, asyncio.create_task(self._run(name, digest, credentials)))
            self._flights[name] = flight
            flight.task.add_done_callback(lambda task: self._landed(name, task))
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                flight.task.cancel()

    def _landed(self, name: str, task: asyncio.Task[Pulled]) -> None:
        del self._flights[name]
        if not task.cancelled():
            task.exception()  # seen, though nobody may wait for it any more

    async def _run(self, name: str, digest: str, credentials: Credentials | None) -> Pulled:
        begun = self._clock()
        await self._runtime.pull(name, credentials)
        took = self._clock() - begun
        found, stands_for = await self._runtime.image(name), await self._runtime.digest(name)
        if found is None:
            raise NotFoundError(f"{name}: it was removed from the node as soon as it was there; check the node's disk")
        if digest and digest != stands_for:
            raise DigestMismatchError(f"{name}: the runtime has {stands_for} under this name; remove it from the node")
        return Pulled(stands_for, found.bytes, round(took, 3), found.pinned)

    async def _pin(self, name: str) -> bool:
        """Pin, and see whether it is heeded. A runtime that once did not is not waited for again."""
        await self._runtime.mark_pinned(name, pinned=True)
        for pause in _HEEDED_AFTER[:1] if self.pinning_heeded is False else _HEEDED_AFTER:
            await asyncio.sleep(pause)
            found = await self._runtime.image(name)
            if found is not None and found.pinned:
                self.pinning_heeded = True
                return True
        self.pinning_heeded = False
        return False
