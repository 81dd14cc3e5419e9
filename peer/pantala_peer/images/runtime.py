"""The node's container runtime: who it is, whether it asks the mirror, and which blobs it has."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from msgspec import structs

from pantala_peer.events import ImagesOrdered, PeerEvents
from pantala_peer.images.errors import OrderError
from pantala_peer.images.ports import Helper, Status, Told
from pantala_peer.mirror.probe import Sighting
from pantala_protocol.images import RuntimeState

_USUALLY = 60.0
_SOONER = 10.0
"""Seconds between two looks: while it asks the mirror, and while it does not."""

_STEP = 64 * 1024 * 1024
"""Bytes to which the room on the disk is told: each new number is told to all who listen."""


class RuntimeWatch:
    """Looks, and tells what changed.

    ``port`` tells at which one containerd reaches the mirror (0: there is none), ``sighting`` what was seen last of a
    probe.
    """

    def __init__(
        self,
        helper: Helper,
        told: Told,
        node: str,
        *,
        events: PeerEvents,
        port: Callable[[], int],
        sighting: Callable[[], Sighting | None],
        wall: Callable[[], float],
    ) -> None:
        self._helper = helper
        self._told = told
        self._node = node
        self._port = port
        self._sighting = sighting
        self._wall = wall
        self._survey: tuple[str, ...] = ()
        self._state = RuntimeState()
        self._look_now = asyncio.Event()
        events.subscribe(ImagesOrdered, self._on_orders)

    def pinned(self, heeded: bool) -> None:
        """A pin was asked for, and heeded or not: nobody shall wait for a minute to hear of the first one."""
        if heeded != self._state.pins:
            self._look_now.set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self._look_now.clear()
            self._tell(await self.look())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_USUALLY if self._state.mirror else _SOONER):
                    await self._look_now.wait()

    async def look(self) -> RuntimeState:
        """How it is now."""
        try:
            status = await self._helper.status()
            in_force, why = await self._probe(status)
            found = await self._helper.blobs(self._survey) if self._survey else None
        except OrderError as error:
            return RuntimeState(message=str(error))
        return RuntimeState(
            name=status.name,
            version=status.version,
            mirror=in_force,
            message=why,
            pins=status.pins,
            disk_free=None if status.disk_free is None else status.disk_free // _STEP * _STEP,
            blobs={} if found is None else {digest: digest in found for digest in self._survey},
        )

    async def _probe(self, status: Status) -> tuple[bool, str]:
        """Whether it asks the mirror; if not, why, and what to do."""
        port = self._port()
        if not port:
            return False, "the peer has no mirror, so images are pulled from their registries; give it --mirror-listen"
        begun_at = self._wall()
        await self._helper.probe(self._node, port)
        seen = self._sighting()
        if seen is not None and seen.node == self._node and seen.at >= begun_at and seen.in_force:
            return True, ""
        if status.config_path:
            return False, (
                f"{status.name} reads {status.config_path} and does not ask this node's mirror: run pantala-peer "
                "configure with that folder as --certs-d; until then images are pulled from their registries"
            )
        return False, (
            f"{status.name} {status.version} does not read a certs.d folder, so it does not ask this node's mirror: "
            'set config_path = "/etc/containerd/certs.d" in its config.toml, below '
            '[plugins."io.containerd.grpc.v1.cri".registry] where that begins with version = 2, or below '
            '[plugins."io.containerd.cri.v1.images".registry] where the version is greater, and restart it; until then '
            "images are pulled from their registries"
        )

    def _on_orders(self, event: ImagesOrdered) -> None:
        """Report soon which of the survey's blobs the runtime has."""
        if event.orders.survey != self._survey:
            self._survey = event.orders.survey
            self._look_now.set()

    def _tell(self, state: RuntimeState) -> None:
        """The room on the disk alone is no news that anybody is waiting for."""
        urgent = structs.replace(state, disk_free=self._state.disk_free) != self._state
        self._state = state
        self._told.report_runtime(state, urgent=urgent)
