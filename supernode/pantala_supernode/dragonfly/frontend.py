"""Builds all parts for Dragonfly's clients and its REST API."""

import secrets
import time
from collections.abc import Callable, Iterator

from aiohttp import web

from pantala_pieces.store import PieceStore
from pantala_supernode.dragonfly.checksums import Checksums
from pantala_supernode.dragonfly.clients import ClientLifetimes, Clients
from pantala_supernode.dragonfly.peers import RegisteredPeers
from pantala_supernode.dragonfly.preheat import PreheatManager
from pantala_supernode.dragonfly.registration import RegistrationTimeouts
from pantala_supernode.dragonfly.rest import RestAPI
from pantala_supernode.dragonfly.routes import DragonflyAPI
from pantala_supernode.dragonfly.service import DragonflyService
from pantala_supernode.events import Events
from pantala_supernode.http.access import Access, Guard
from pantala_supernode.http.operations import HotRoute, Operation
from pantala_supernode.swarm.download import DfgetTaskStatus
from pantala_supernode.swarm.scheduler import Managers
from pantala_supernode.sync.dispatch import Dispatcher
from pantala_supernode.tasks.task import LeaseHolder


class DragonflyFrontend:
    """Serves the REST API, and if ``enabled`` also dfget and dfdaemon. ``clock`` returns monotonic seconds."""

    def __init__(
        self,
        leases: LeaseHolder,
        events: Events,
        managers: Managers,
        dispatcher: Dispatcher,
        store: PieceStore,
        *,
        enabled: bool,
        advertise: str,
        clock: Callable[[], float],
    ) -> None:
        self.access = Access.DRAGONFLY if enabled else Access.OPERATOR
        """Which clients may call the REST API."""
        self._dfget_tasks = managers.dfget_tasks
        self._checksums = Checksums(store.get)
        self._clients = Clients(managers, dispatcher, clock=clock, lifetimes=ClientLifetimes())
        self.service = DragonflyService(
            leases,
            events,
            managers,
            dispatcher,
            self._clients,
            self._checksums,
            advertise=advertise,
            clock=clock,
            timeouts=RegistrationTimeouts(),
        )
        self.peers = RegisteredPeers(
            leases, managers, dispatcher, self._clients, new_id=lambda: secrets.token_hex(8), clock=clock
        )
        self.preheats = PreheatManager(leases, managers.tasks, clock=clock, wall=time.time)
        self._api = DragonflyAPI(self.service)
        self._rest = RestAPI(managers, self.service, self.peers, self.preheats, access=self.access)

    @property
    def busy(self) -> bool:
        return any(not client.finished for client in self._clients)

    def downloads(self) -> Iterator[DfgetTaskStatus]:
        """The states of the downloads of all clients."""
        found = (self._dfget_tasks.get(client.name, client.task_id) for client in self._clients)
        return (download.status for download in found if download is not None)

    def operations(self) -> tuple[Operation, ...]:
        return self._rest.operations()

    def add_routes(self, router: web.UrlDispatcher, guard: Guard) -> None:
        if self.access is Access.DRAGONFLY:
            self._api.add_routes(router, guard)

    def hot_routes(self) -> tuple[HotRoute, ...]:
        return self._api.hot_routes() if self.access is Access.DRAGONFLY else ()

    def tick(self) -> None:
        self._clients.tick()
        self.service.registrations.tick()
        self.peers.tick()
        self.preheats.tick()

    def close(self) -> None:
        self._checksums.close()
