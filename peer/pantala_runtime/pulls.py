"""Pulls images into the container runtime. Requests for one image with the same credentials share one pull."""

import asyncio
from collections.abc import Callable
from weakref import WeakValueDictionary

import msgspec

from pantala_process.flight import SingleFlight
from pantala_protocol.image import ImageReference
from pantala_protocol.reasons import Reason
from pantala_protocol.runtime import PullCredentials, PulledImage
from pantala_runtime.errors import NoSuchImageError, PullDigestError, PullTimeoutError, RuntimeSilentError
from pantala_runtime.runtime import ContainerRuntime

_CHECKS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds between checks for a new name or pin, because the CRI shows it only after a short time."""


class Pulls:
    """All pulls of one node. The methods raise :class:`~pantala_runtime.errors.HelperError`."""

    def __init__(self, runtime: ContainerRuntime, clock: Callable[[], float]) -> None:
        self._runtime = runtime
        self._clock = clock
        self._flight: SingleFlight[tuple[str, PullCredentials | None], PulledImage] = SingleFlight(stop_unattended=True)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.pins_honoured: bool | None = None
        """True if the runtime honoured the last pin. ``None`` if this process has not set a pin yet."""

    async def pull(
        self, image: ImageReference, credentials: PullCredentials | None = None, *, timeout: float, pin: bool = False
    ) -> PulledImage:
        """Pull ``image`` within ``timeout`` seconds. A cancelled pull continues while other requests wait for it."""
        name = str(image)
        try:
            async with asyncio.timeout(timeout):
                pulled = await self._flight.share((name, credentials), lambda: self._pull(image, credentials))
                if pin:
                    pulled = msgspec.structs.replace(pulled, pinned=await self.pin(image))
                return pulled
        except TimeoutError:
            raise PullTimeoutError(
                f"{image}: the pull did not end within {timeout:g} s. {Reason.TIMEOUT.action}"
            ) from None

    async def name(self, image: ImageReference, name: ImageReference) -> None:
        """Add the tag ``name`` to ``image`` in the runtime. Returns when the CRI shows the name."""
        await self._runtime.name(str(image), str(name))
        for pause in _CHECKS:
            await asyncio.sleep(pause)
            found = await self._runtime.image(str(name))
            if found is not None and str(image) in found.digests:
                return
        raise RuntimeSilentError(f"{name}: the runtime accepted the name, but does not show it. The peer retries.")

    async def pin(self, image: ImageReference) -> bool:
        """Pin the image, and check repeatedly that the runtime shows the pin. Returns False if the pin is ignored.

        After a runtime ignored a pin, later calls check only once.
        """
        await self._runtime.mark_pinned(str(image), pinned=True)
        for pause in _CHECKS[:1] if self.pins_honoured is False else _CHECKS:
            await asyncio.sleep(pause)
            found = await self._runtime.image(str(image))
            if found is not None and found.pinned:
                self.pins_honoured = True
                return True
        self.pins_honoured = False
        return False

    async def unpin(self, image: ImageReference) -> None:
        """Remove the image's pin, so that the kubelet may remove the image when the disk is full."""
        await self._runtime.mark_pinned(str(image), pinned=False)

    async def close(self) -> None:
        """Cancel all pulls."""
        await self._flight.close()

    async def _pull(self, image: ImageReference, credentials: PullCredentials | None) -> PulledImage:
        name = str(image)
        turn = self._turns.setdefault(name, asyncio.Lock())
        async with turn:  # pulls with different credentials run one after the other, so that each proves its own
            begun = self._clock()
            await self._runtime.pull(name, credentials)
            took = self._clock() - begun
            found, digest = await self._runtime.image(name), await self._runtime.digest(name)
        if found is None:
            raise NoSuchImageError(f"{name}: the image was removed right after the pull. Check the node's disk space.")
        if image.digest and image.digest != digest:
            raise PullDigestError(f"{name}: the runtime has {digest} under this name. Remove the image from the node.")
        return PulledImage(digest, found.bytes, round(took, 3), found.pinned)
