"""The connection of a simulated peer: it carries exchanges to the simulated supernode without a socket."""

from types import TracebackType
from typing import Self

from bench.simulation.supernode import SimulatedSupernode
from pantala_peer.sync.connection import SyncConnection
from pantala_protocol.sync import SyncAnswer, SyncRequest


class SimulatedConnection(SyncConnection):
    """Stands for the HTTP connection of one peer."""

    def __init__(self, supernode: SimulatedSupernode) -> None:
        super().__init__("http://supernode", token_file=None, timeout=0.0)
        self._supernode = supernode

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    async def sync(self, request: SyncRequest) -> SyncAnswer:
        """Carry a request to the supernode and its answer back."""
        return await self._supernode.sync(request)
