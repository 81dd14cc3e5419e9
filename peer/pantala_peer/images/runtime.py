"""The state of the node's container runtime: its version, whether it uses the mirror, and which blobs it has."""

import asyncio
from collections.abc import Callable

from msgspec import structs

from pantala_peer.containerd.watch import RepairNote
from pantala_peer.events import ImagesOrdered, PeerEvents
from pantala_peer.images.errors import OrderError
from pantala_peer.images.helper import RuntimeHelper
from pantala_peer.mirror.request import ProbeResult
from pantala_peer.sync.supernodes import SupernodeSessions
from pantala_process.backoff import pause_until
from pantala_protocol.images import RuntimeState
from pantala_protocol.runtime import RuntimeStatus

_INTERVAL = 60.0
_SHORT_INTERVAL = 10.0
"""Seconds between two checks while the runtime does not use the mirror. Otherwise, ``_INTERVAL`` seconds."""

_NOTE_INTERVAL = 10.0
"""Seconds between two reads of the note about repairs."""

_STEP = 64 * 1024 * 1024
"""Free disk space is rounded down to a multiple of this many bytes, so that small changes are not reported."""


class RuntimeWatch:
    """Checks the runtime and reports changes.

    ``port`` returns the port at which containerd reaches the mirror. 0: the mirror does not listen, and ``problem``
    returns why. ``last_probe`` returns the last probe that the mirror saw. ``repair`` returns the last repair of
    containerd's files. ``clock`` returns monotonic seconds.
    """

    def __init__(
        self,
        helper: RuntimeHelper,
        supernodes: SupernodeSessions,
        node: str,
        *,
        events: PeerEvents,
        port: Callable[[], int],
        problem: Callable[[], str],
        last_probe: Callable[[], ProbeResult | None],
        repair: Callable[[], RepairNote | None],
        clock: Callable[[], float],
    ) -> None:
        self._helper = helper
        self._supernodes = supernodes
        self._node = node
        self._port = port
        self._problem = problem
        self._last_probe = last_probe
        self._repair = repair
        self._clock = clock
        self._survey: tuple[str, ...] = ()
        self._state = RuntimeState()
        self._note: RepairNote | None = None
        self._look_now = asyncio.Event()
        events.subscribe(ImagesOrdered, self._on_orders)

    def pinned(self, honoured: bool) -> None:
        """Report soon whether the runtime honours pins, if that has changed."""
        if honoured != self._state.pins:
            self._look_now.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_repairs())
            while True:
                self._look_now.clear()
                self._report(await self.look())
                await pause_until(self._look_now, _INTERVAL if self._state.mirror else _SHORT_INTERVAL)

    async def _follow_repairs(self) -> None:
        """Report a repair soon."""
        while True:
            await asyncio.sleep(_NOTE_INTERVAL)
            if await asyncio.to_thread(self._repair) != self._note:
                self._look_now.set()

    async def look(self) -> RuntimeState:
        try:
            status = await self._helper.status()
            in_force, why = await self._probe(status)
            self._note = note = await asyncio.to_thread(self._repair)
            if note is not None and (in_force or note.fault) and self._port():
                in_force, why = not note.fault, str(note)
            found = await self._helper.blobs(self._survey) if self._survey else None
        except OrderError as error:
            return RuntimeState(message=str(error))
        free = status.image_filesystem.free
        return RuntimeState(
            name=status.runtime.name,
            version=status.runtime.version,
            mirror=in_force,
            message=why,
            pins=status.pinning.honoured,
            disk_free=None if free is None else free // _STEP * _STEP,
            blobs={} if found is None else {digest: digest in found for digest in self._survey},
        )

    async def _probe(self, status: RuntimeStatus) -> tuple[bool, str]:
        """True if the runtime asks the mirror. Otherwise, the text says why it does not, and what to do."""
        port = self._port()
        if not port:
            return False, self._problem()
        started_at = self._clock()
        await self._helper.probe(self._node, port)
        probe = self._last_probe()
        if probe is not None and probe.node == self._node and probe.at >= started_at:
            return True, ""
        runtime, folder = status.runtime, status.mirror.config_path
        if folder:
            return False, (
                f"{runtime.name} reads {folder} and does not ask this node's mirror. Run pantala-peer configure with "
                "that folder as --certs-d. Until then images are pulled from their registries"
            )
        return False, (
            f"{runtime.name} {runtime.version} does not read a certs.d folder, so it does not ask this node's mirror. "
            'Set config_path = "/etc/containerd/certs.d" in its config.toml and restart it. In a file with version = 2 '
            'the line belongs below [plugins."io.containerd.grpc.v1.cri".registry], in a newer one below '
            '[plugins."io.containerd.cri.v1.images".registry]. Until then images are pulled from their registries'
        )

    def _on_orders(self, event: ImagesOrdered) -> None:
        """If the operator's survey has changed, report soon which of its blobs the runtime has."""
        if event.orders.survey != self._survey:
            self._survey = event.orders.survey
            self._look_now.set()

    def _report(self, state: RuntimeState) -> None:
        """Report a state, urgently unless only the free disk space has changed."""
        urgent = structs.replace(state, disk_free=self._state.disk_free) != self._state
        self._state = state
        self._supernodes.report_runtime(state, urgent=urgent)
