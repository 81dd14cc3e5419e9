"""Peers that registered by themselves, and their downloads; and what goes with a peer or a task that is deleted.

A visitor is what Dragonfly's REST API calls a peer: it registers, creates tasks, asks for pieces and reports them. The
peers of nodes introduce themselves in their exchange instead. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from pantala_protocol.sync import PieceFailure
from pantala_protocol.wrapping import Wrapping
from pantala_supernode.dragonfly.clients import Client, Clients
from pantala_supernode.errors import ConflictError, EmptyValueError, InvalidValueError, NotFoundError, NotReadyError
from pantala_supernode.swarm.download import DfgetTaskStatus
from pantala_supernode.swarm.peer import SwarmPeer
from pantala_supernode.swarm.scheduler import Managers
from pantala_supernode.sync.dispatch import Dispatcher
from pantala_supernode.tasks.task import LeaseHolder, Task

_MOST = 10_000
"""Visitors that are known at once: nobody has to prove who it is, so there is an end to it."""


class PieceStatus(StrEnum):
    """How far a client is with a task."""

    STARTED = "STARTED"
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"


class PieceResult(StrEnum):
    """What became of a piece, or at the end of the task."""

    FAILED = "FAILED"
    SUCCESS = "SUCCESS"
    INVALID = "INVALID"
    SEMISUC = "SEMISUC"
    """The client has the piece and cannot serve it yet."""


@dataclass(slots=True)
class _Visitor:
    heard_at: float
    downloads: set[tuple[str, str]] = field(default_factory=set)
    """By task and cid."""


class Visitors:
    """All of them. ``new_id`` makes a text that never was, ``clock`` tells monotonic seconds."""

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
        self._visitors: dict[str, _Visitor] = {}

    def register(self, *, address: str, host: str, port: int, version: str) -> str:
        """A new peer; its ID. The same address and port may come again: that is another peer."""
        if len(self._visitors) >= _MOST:
            raise NotReadyError("too many peers are registered; deregister some or wait until they are forgotten")
        name = f"{host}-{address}-{self._new_id()}"
        self._managers.peers.register(SwarmPeer(name, "", address, port, b"", host=host, version=version))
        self._visitors[name] = _Visitor(self._clock())
        return name

    def join(self, name: str, task_id: str, cid: str) -> None:
        """A visitor began a download."""
        visitor = self._visitors.get(name)
        if visitor is not None:
            visitor.heard_at = self._clock()
            visitor.downloads.add((task_id, cid))

    def deregister(self, name: str) -> None:
        """A peer is gone: its downloads, its pieces and what was held against it, too.

        Raises :class:`EmptyValueError`, :class:`NotFoundError`, and :class:`ConflictError` for a node's peer that is
        connected, since it would be back in a moment.
        """
        self._managers.peers.known(name)
        visitor, run = self._visitors.get(name), self._run(name)
        if visitor is not None:
            self._forget(name, visitor)
        elif run is not None:
            self._clients.forget(run)
        else:
            self._forget_node(name)

    def finish(self, name: str, task_id: str) -> None:
        """A visitor has all of a task. Raises :class:`NotFoundError` if it does not download it."""
        self._managers.tasks.known(task_id)
        self._managers.peers.known(name)
        runs = [run for run in self._runs(self._visitors.get(name)) if run.task_id == task_id]
        if not runs:
            raise NotFoundError(f"peer {name[:100]!r} does not download task {task_id[:64]!r}")
        for run in runs:
            self._end(run, DfgetTaskStatus.SUCCESS)

    def update_piece(
        self, task_id: str, text: str, cid: str, provider: str, status: PieceStatus, result: PieceResult
    ) -> None:
        """A client tells what became of the piece with the range ``text``. Idempotent.

        Raises :class:`EmptyValueError` for no client, :class:`InvalidValueError` for a range that is no piece's or a
        result that says nothing, :class:`NotFoundError` for an unknown task or client, :class:`ConflictError` if the
        content changed meanwhile.
        """
        task, client = self._managers.tasks.known(task_id), self._client(task_id, cid)
        if client.generation != task.copy.generation:
            raise ConflictError("the file changed at its origin; begin a new download")
        piece = _piece(task, text)
        self._clients.heard(client)
        if status is PieceStatus.STARTED:
            self._managers.dfget_tasks.update_status(client.name, task_id, DfgetTaskStatus.RUNNING)
        elif status is PieceStatus.FINISHED:
            done = result is PieceResult.SUCCESS
            self._end(client, DfgetTaskStatus.SUCCESS if done else DfgetTaskStatus.FAILED)
        else:
            self._take(client, task, piece, provider, result)

    def delete_task(self, task_id: str, *, full: bool) -> None:
        """A task is gone with its downloads and all progress; ``full``: the copy on the volume, too.

        Raises :class:`EmptyValueError`, :class:`NotFoundError`, and :class:`ConflictError` if a Task resource wants it.
        """
        task = self._managers.tasks.known(task_id)
        if task.wanted:
            names = ", ".join(sorted(wanted.name for wanted in task.wanted.values())[:3])
            raise ConflictError(f"the task is wanted by Task resources; delete those: {names}")
        for client in list(self._clients.of(task_id)):
            self._clients.forget(client)
        self._leases.end_lease(task_id, keep=not full)

    def tick(self) -> None:
        """Forget who was silent for as long as a provider is known; to be called about once a second."""
        now = self._clock()
        for name, visitor in list(self._visitors.items()):
            if self._runs(visitor):
                visitor.heard_at = now
            elif now - visitor.heard_at > self._clients.lasting.provider:
                self._forget(name, visitor)

    def _take(self, client: Client, task: Task, piece: int, provider: str, result: PieceResult) -> None:
        if result is PieceResult.INVALID:
            raise InvalidValueError("a running client tells FAILED, SUCCESS or SEMISUC of a piece")
        if result is PieceResult.FAILED:
            self._dispatcher.failed(client.session, PieceFailure(task.id, piece, provider, "unreachable"))
        else:
            self._dispatcher.succeeded(client.session, task, 1 << piece, serves=result is PieceResult.SUCCESS)

    def _end(self, client: Client, status: DfgetTaskStatus) -> None:
        client.finished = True
        self._managers.dfget_tasks.update_status(client.name, client.task_id, status)
        if status is DfgetTaskStatus.FAILED:
            self._dispatcher.release(client.session)

    def _client(self, task_id: str, cid: str) -> Client:
        if not cid:
            raise EmptyValueError("srcCid is empty: tell who reports")
        client = self._clients.get(task_id, cid)
        if client is None:
            raise NotFoundError(f"client {cid[:100]!r} does not download task {task_id[:64]!r}; create the task again")
        return client

    def _run(self, name: str) -> Client | None:
        return next((client for client in self._clients if client.name == name), None)

    def _runs(self, visitor: _Visitor | None) -> list[Client]:
        if visitor is None:
            return []
        found = [self._clients.get(*key) for key in visitor.downloads]
        runs = [client for client in found if client is not None]
        visitor.downloads = {(client.task_id, client.cid) for client in runs}
        return runs

    def _forget(self, name: str, visitor: _Visitor) -> None:
        for run in self._runs(visitor):
            self._clients.forget(run)
        self._managers.peers.deregister(name)
        del self._visitors[name]

    def _forget_node(self, name: str) -> None:
        peer, session = self._managers.peers.known(name), self._dispatcher.sessions.get(name)
        if peer.connected:
            raise ConflictError(f"{name!r} is a node's peer and connected; drain the node or its Peer resource instead")
        if session is not None:
            self._dispatcher.forget(session)
        else:
            self._managers.peers.deregister(name)


def _piece(task: Task, text: str) -> int:
    if not task.copy.piece_size:
        raise ConflictError("the task has no pieces yet")
    try:
        piece = Wrapping(task.copy.piece_size).piece(text)
    except ValueError as error:
        raise InvalidValueError(str(error)) from None
    if not task.possible >> min(piece, 1 << 22) & 1:
        raise NotFoundError(f"the file has no piece {piece}")
    return piece
