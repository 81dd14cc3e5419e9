"""The connection of a simulated peer: it carries exchanges to the simulated supernode without a socket."""

import asyncio
from collections.abc import Callable

from bench.simulation.supernode import SimulatedSupernode
from pantala_peer.errors import ExchangeError
from pantala_peer.sync.connection import SyncConnection
from pantala_protocol.sync import SyncAnswer, SyncRequest


class SimulatedConnection(SyncConnection):
    """Stands for the HTTP connections of one peer."""

    def __init__(self, supernode: SimulatedSupernode) -> None:
        super().__init__("http://supernode", token_file=None, timeout=0.0)
        self._supernode = supernode

    def send(self, request: SyncRequest, ended: Callable[[SyncAnswer | ExchangeError | None], None]) -> bool:
        self._supernode.ask(request, ended)
        return True

    async def sync(self, request: SyncRequest) -> SyncAnswer:
        """Send one exchange and wait for its answer."""
        answered: asyncio.Future[SyncAnswer] = asyncio.get_running_loop().create_future()
        self._supernode.ask(request, answered.set_result)
        return await answered
