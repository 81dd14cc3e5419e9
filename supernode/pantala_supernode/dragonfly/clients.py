"""The clients. Each is one run of dfget with one task, and may serve pieces after it ended."""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pantala_protocol.geometry import Wrapping
from pantala_protocol.sync import PieceFailure
from pantala_supernode.dragonfly.wire import PieceEntry, PieceResult, Registration
from pantala_supernode.errors import ConflictError, InvalidValueError, NotFoundError
from pantala_supernode.swarm.download import DfgetTaskStatus
from pantala_supernode.swarm.peer import SwarmPeer
from pantala_supernode.swarm.scheduler import Managers
from pantala_supernode.sync.dispatch import Dispatcher
from pantala_supernode.sync.session import PeerSession
from pantala_supernode.tasks.task import Task

_MAX_CLIENTS = 50_000


@dataclass(frozen=True, slots=True)
class ClientLifetimes:
    """Seconds after a client's last request until something ends."""

    work: float = 90.0
    """The pieces that the client fetches are given to others. It sends nothing while it fetches one slow piece."""
    client: float = 300.0
    """A client that did not finish is removed."""
    provider: float = 600.0
    """A client that finished is removed. Its uploader lives for minutes without a request."""
    lease: float = 600.0
    """The lease of the task ends. Not shorter than any of its clients is known."""


@dataclass(slots=True, eq=False)
class Client:
    """One run of dfget with one task."""

    cid: str
    session: PeerSession
    task_id: str
    generation: str
    """Generation of the content when the client registered."""
    md5: str
    """The md5 that the file must have; empty: any."""
    last_alive: float
    """When it last sent a request or uploaded a piece; monotonic seconds."""
    released: bool = False
    finished: bool = False
    uploads: int = 0
    """The number of pieces that others had fetched from this client at the last check."""
    entries: dict[tuple[int, str], PieceEntry] = field(default_factory=dict)
    """The last answer's entries by piece and provider. Every pull repeats the pieces that are not reported."""
    failure_kinds: dict[str, str] = field(default_factory=dict)
    """By piece (range) or provider: the kind of a failure that the client is about to report."""

    @property
    def name(self) -> str:
        return self.session.peer


class Clients:
    """All clients, by task and cid."""

    def __init__(
        self, managers: Managers, dispatcher: Dispatcher, *, clock: Callable[[], float], lifetimes: ClientLifetimes
    ) -> None:
        self.lifetimes = lifetimes
        self._managers = managers
        self._dispatcher = dispatcher
        self._clock = clock
        self._clients: dict[tuple[str, str], Client] = {}

    @property
    def full(self) -> bool:
        """True at the limit of clients. Clients do not authenticate, so their number is bounded."""
        return len(self._clients) >= _MAX_CLIENTS

    def __iter__(self) -> Iterator[Client]:
        return iter(list(self._clients.values()))

    def get(self, task_id: str, cid: str) -> Client | None:
        return self._clients.get((task_id, cid))

    def of(self, task_id: str) -> Iterator[Client]:
        task = self._managers.tasks.get(task_id)
        for name in tuple(task.fetchers) if task is not None else ():
            client = self.get(task_id, name.removeprefix("dfget:").removesuffix(f"~{task_id}"))
            if client is not None:
                yield client

    def add(self, registration: Registration, task: Task, host: str) -> Client:
        """Add a client to the task's swarm, or restart one that is there.

        ``host`` is the source of its connection. A client that names another address does not become a provider.
        """
        former = self.get(task.id, registration.cid)
        if former is not None:
            self.remove(former)
        name = f"dfget:{registration.cid}~{task.id}"  # not a node's name, and long enough for the clients' logs
        port = registration.port if registration.ip == host else 0
        session = PeerSession(name, boot=secrets.token_hex(8), path=registration.path)
        session.open_tasks[task.id] = None
        self._dispatcher.add(session, SwarmPeer(name, host, port, secrets.token_bytes(32)))
        self._managers.dfget_tasks.add(name, task.id)
        self._managers.progress.init_progress(task.id, name)
        task.fetchers.add(name)
        client = Client(registration.cid, session, task.id, task.copy.generation, registration.md5, self._clock())
        self._clients[task.id, registration.cid] = client
        return client

    def renew(self, client: Client) -> None:
        client.last_alive, client.released = self._clock(), False
        self._managers.tasks.renew(client.task_id, until=client.last_alive + self.lifetimes.lease)

    def report(self, client: Client, task: Task, text: str, provider: str, result: PieceResult) -> None:
        """Apply a client's report on the piece with the range ``text``. Idempotent. Raises as :func:`piece_number`."""
        piece = piece_number(task, text)
        if result is PieceResult.FAILED:
            kind = client.failure_kinds.pop(text, "") or client.failure_kinds.pop(provider, "") or "unreachable"
            self._dispatcher.failed(client.session, PieceFailure(task.id, piece, provider, kind))
        else:
            self._dispatcher.succeeded(client.session, task, 1 << piece, serves=result is PieceResult.SUCCESS)

    def finish(self, client: Client, *, succeeded: bool) -> None:
        client.finished = True
        status = DfgetTaskStatus.SUCCESS if succeeded else DfgetTaskStatus.FAILED
        self._managers.dfget_tasks.update_status(client.name, client.task_id, status)
        if not succeeded:
            self._dispatcher.release(client.session)

    def remove(self, client: Client) -> None:
        self._clients.pop((client.task_id, client.cid), None)
        task = self._managers.tasks.get(client.task_id)
        if task is not None:
            task.fetchers.discard(client.name)
        self._dispatcher.forget(client.session)

    def tick(self) -> None:
        """Release the work of silent clients, then remove them. Call about once a second."""
        now = self._clock()
        for client in self:
            uploads = self._managers.progress.service[client.name].succeeded
            if uploads != client.uploads:
                client.uploads, client.last_alive = uploads, now
            silent = now - client.last_alive
            if silent > (self.lifetimes.provider if client.finished else self.lifetimes.client):
                self.remove(client)
            elif silent > self.lifetimes.work and not client.released:
                client.released = True
                self._dispatcher.release(client.session)


def piece_number(task: Task, text: str) -> int:
    """The piece with the range ``text``.

    Raises :class:`InvalidValueError` for any other range, :class:`NotFoundError` for a piece that the file does not
    have, and :class:`ConflictError` while the task has no content.
    """
    if not task.copy.piece_size:
        raise ConflictError("the task has no pieces yet; ask again later")
    try:
        piece = Wrapping(task.copy.piece_size).piece(text)
    except ValueError as error:
        raise InvalidValueError(str(error)) from None
    if not task.possible >> min(piece, 1 << 22) & 1:
        raise NotFoundError(f"the file has no piece {piece}")
    return piece
