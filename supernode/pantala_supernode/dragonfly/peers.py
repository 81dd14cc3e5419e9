"""Peers that register by Dragonfly's REST API, their downloads, and the deletion of peers and tasks.

A registered peer creates tasks, requests pieces and reports them. Pantala's peers use the exchange instead. Pure.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from pantala_supernode.dragonfly.clients import Client, Clients, piece_number
from pantala_supernode.dragonfly.models import PeerCreateRequest, PieceUpdateRequest
from pantala_supernode.dragonfly.wire import PieceResult, PieceStatus
from pantala_supernode.errors import ConflictError, EmptyValueError, InvalidValueError, NotFoundError, NotReadyError
from pantala_supernode.swarm.download import DfgetTaskStatus
from pantala_supernode.swarm.peer import SwarmPeer
from pantala_supernode.swarm.scheduler import Managers
from pantala_supernode.sync.dispatch import Dispatcher
from pantala_supernode.tasks.shares import DRAGONFLY
from pantala_supernode.tasks.task import LeaseHolder

_MAX_PEERS = 10_000
"""The most registered peers. Their number is limited, because they do not authenticate."""


@dataclass(slots=True)
class _Entry:
    last_alive: float
    downloads: set[tuple[str, str]] = field(default_factory=set)
    """The downloads of the peer, as pairs of task ID and client ID (``cid``)."""


class RegisteredPeers:
    """All registered peers. ``new_id`` returns a text that was not used before. ``clock`` returns monotonic seconds."""

    def __init__(
        self,
        leases: LeaseHolder,
        managers: Managers,
        dispatcher: Dispatcher,
        clients: Clients,
        *,
        new_id: Callable[[], str],
        clock: Callable[[], float],
    ) -> None:
        self._leases = leases
        self._managers = managers
        self._dispatcher = dispatcher
        self._clients = clients
        self._new_id = new_id
        self._clock = clock
        self._entries: dict[str, _Entry] = {}

    def register(self, request: PeerCreateRequest) -> str:
        """Register a peer and return its ID. Each registration makes a new peer, even for the same address."""
        if len(self._entries) >= _MAX_PEERS:
            raise NotReadyError("too many peers are registered; delete peers, or wait until silent peers are removed")
        address = request.address
        name = f"{request.host_name}-{address}-{self._new_id()}"
        peer = SwarmPeer(name, address, request.port, b"", host=request.host_name, version=request.version)
        self._managers.peers.register(peer)
        self._entries[name] = _Entry(self._clock())
        return name

    def join(self, name: str, task_id: str, cid: str) -> None:
        entry = self._entries.get(name)
        if entry is not None:
            entry.last_alive = self._clock()
            entry.downloads.add((task_id, cid))

    def deregister(self, name: str) -> None:
        """Remove a peer with its downloads, pieces and reputation.

        Raises :class:`EmptyValueError`, :class:`NotFoundError`, and :class:`ConflictError` for a connected peer of a
        node, because that peer would connect again in a moment.
        """
        self._managers.peers.known(name)
        entry = self._entries.get(name)
        client = next((client for client in self._clients if client.name == name), None)
        if entry is not None:
            self._remove(name, entry)
        elif client is not None:
            self._clients.remove(client)
        else:
            self._remove_node(name)

    def finish(self, name: str, task_id: str) -> None:
        """Record that a peer has the whole file of a task. Raises :class:`NotFoundError` if it does not download it."""
        self._managers.tasks.known(task_id)
        self._managers.peers.known(name)
        entry = self._entries.get(name)
        downloads = [] if entry is None else [found for found in self._downloads(entry) if found.task_id == task_id]
        if not downloads:
            raise NotFoundError(f"peer {name[:100]!r} does not download task {task_id[:64]!r}")
        for client in downloads:
            self._clients.finish(client, succeeded=True)

    def update_piece(self, task_id: str, text: str, request: PieceUpdateRequest) -> None:
        """Apply a client's report about the piece with the range ``text``. Idempotent.

        Raises :class:`EmptyValueError` without a client, :class:`InvalidValueError` for an invalid range or result,
        :class:`NotFoundError` for an unknown task or client, :class:`ConflictError` if the content changed meanwhile.
        """
        task, client = self._managers.tasks.known(task_id), self._client(task_id, request.source)
        if client.generation != task.copy.generation:
            raise ConflictError("the file changed at its origin; start a new download")
        piece_number(task, text)
        self._clients.renew(client)
        if request.status is PieceStatus.STARTED:
            self._managers.dfget_tasks.update_status(client.name, task_id, DfgetTaskStatus.RUNNING)
        elif request.status is PieceStatus.FINISHED:
            self._clients.finish(client, succeeded=request.result is PieceResult.SUCCESS)
        elif request.result is PieceResult.INVALID:
            raise InvalidValueError("a running client reports FAILED, SUCCESS or SEMISUC for a piece")
        else:
            self._clients.report(client, task, text, request.provider, request.result)

    def delete_task(self, task_id: str, *, full: bool) -> None:
        """Delete a task, its downloads and all progress. With ``full``, also delete the copy on the volume.

        Raises :class:`EmptyValueError`, :class:`NotFoundError`, and :class:`ConflictError` if a Task resource needs it,
        or a node that pulls images, or another supernode.
        """
        task = self._managers.tasks.known(task_id)
        if task.wanted:
            names = ", ".join(sorted(wanted.name for wanted in task.wanted.values())[:3])
            raise ConflictError(f"Task resources want this task; delete them first: {names}")
        if task.lease is not None and (task.lease.source is None or task.lease.source.tenants - {DRAGONFLY}):
            raise ConflictError("nodes that pull images, or other supernodes, need this file; delete it later")
        for client in list(self._clients.of(task_id)):
            self._clients.remove(client)
        self._leases.end_lease(task_id, keep=not full)

    def tick(self) -> None:
        """Remove peers that had no download for :attr:`ClientLifetimes.provider` seconds. Call about once a second."""
        now = self._clock()
        for name, entry in list(self._entries.items()):
            if self._downloads(entry):
                entry.last_alive = now
            elif now - entry.last_alive > self._clients.lifetimes.provider:
                self._remove(name, entry)

    def _client(self, task_id: str, cid: str) -> Client:
        if not cid:
            raise EmptyValueError("srcCid is empty; name the client that reports")
        client = self._clients.get(task_id, cid)
        if client is None:
            raise NotFoundError(f"client {cid[:100]!r} does not download task {task_id[:64]!r}; create the task again")
        return client

    def _downloads(self, entry: _Entry) -> list[Client]:
        found = [self._clients.get(*key) for key in entry.downloads]
        clients = [client for client in found if client is not None]
        entry.downloads = {(client.task_id, client.cid) for client in clients}
        return clients

    def _remove(self, name: str, entry: _Entry) -> None:
        for client in self._downloads(entry):
            self._clients.remove(client)
        self._managers.peers.deregister(name)
        del self._entries[name]

    def _remove_node(self, name: str) -> None:
        peer, session = self._managers.peers.known(name), self._dispatcher.sessions.get(name)
        if peer.connected:
            raise ConflictError(f"{name!r} is the connected peer of a node; run kubectl pantala drain instead")
        if session is not None:
            self._dispatcher.forget(session)
        else:
            self._managers.peers.deregister(name)
