"""The machines of the model: their links, and the pieces that they send."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.simulation.clock import SimulatedLoop
from bench.simulation.links import Flow, Link, Network
from pantala_pieces.transfer.upload.fetches import FetchState
from pantala_protocol.sync import PieceWork

_SLOT_TIMEOUT = 2.0
"""Seconds that a request for a piece waits for a slot, as in the real piece servers. Then it is refused."""


@dataclass(slots=True, eq=False)
class Transfer:
    """One request for a piece, from the request to the last byte."""

    work: PieceWork
    reader: str
    """The name of the peer that fetches the piece."""
    provider: "Host"
    receiver: Link
    size: float
    """The bytes on the wire."""
    on_end: Callable[["Transfer", bool], object]
    """Called at the end: with True after the last byte, with False if the provider refuses the request."""
    flow: Flow | None = None
    ended: bool = False


@dataclass(eq=False)
class Host:
    """A machine with one link in each direction, which sends up to ``slots`` pieces at once."""

    loop: SimulatedLoop
    network: Network
    zone: str
    up: Link
    down: Link
    slots: int
    on_fetch: Callable[[Transfer, FetchState], object] | None = None
    """Called when the host takes a request for a piece, and when it ends."""
    powered: bool = True
    pieces_sent: int = 0
    _sending: dict[Transfer, None] = field(default_factory=dict)
    _queue: deque[Transfer] = field(default_factory=deque)

    @property
    def uploads(self) -> int:
        """The number of pieces that are being sent now."""
        return len(self._sending)

    def request(self, transfer: Transfer) -> None:
        """Send a piece as soon as a slot is free. A host without power does not answer."""
        if transfer.ended or not self.powered:
            return
        self._report(transfer, FetchState.BEGUN)
        if len(self._sending) < self.slots:
            self._begin(transfer)
        else:
            self._queue.append(transfer)
            self.loop.at(self.loop.time() + _SLOT_TIMEOUT, self._refuse, transfer)

    def cancel(self, transfer: Transfer) -> None:
        """The receiver closes the connection. ``on_end`` is not called. Idempotent."""
        if transfer.ended:
            return
        transfer.ended = True
        if transfer.flow is not None:
            self.network.stop(transfer.flow)
            self._report(transfer, FetchState.BROKEN)
            self._free(transfer)

    def power_off(self) -> None:
        """Send nothing more. The receivers get no notice of this."""
        self.powered = False
        for transfer in self._sending:
            if transfer.flow is not None:
                self.network.stop(transfer.flow)
        self._sending.clear()
        self._queue.clear()

    def _begin(self, transfer: Transfer) -> None:
        self._sending[transfer] = None
        transfer.flow = self.network.start(self.up, transfer.receiver, transfer.size, lambda: self._end(transfer))

    def _end(self, transfer: Transfer) -> None:
        transfer.ended = True
        self.pieces_sent += 1
        self._report(transfer, FetchState.SENT)
        self._free(transfer)
        transfer.on_end(transfer, True)

    def _refuse(self, transfer: Transfer) -> None:
        if self.powered and transfer.flow is None and not transfer.ended:
            transfer.ended = True
            self._report(transfer, FetchState.BROKEN)
            transfer.on_end(transfer, False)

    def _free(self, transfer: Transfer) -> None:
        self._sending.pop(transfer, None)
        while self._queue and len(self._sending) < self.slots:
            following = self._queue.popleft()
            if not following.ended:
                self._begin(following)

    def _report(self, transfer: Transfer, state: FetchState) -> None:
        if self.on_fetch is not None:
            self.on_fetch(transfer, state)
