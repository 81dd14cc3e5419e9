"""Dragonfly's clients. A client is one run of dfget with one task. It may serve pieces after the run has ended."""

import math
import secrets
from collections import Counter
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

_MAX_CLIENTS, _MAX_OF_ADDRESS = 50_000, 5_000
"""The most clients, and the most clients of one address. They are limited, because clients do not authenticate."""


@dataclass(frozen=True, slots=True)
class ClientLifetimes:
    """How long a client may be silent: seconds since the client last sent a request or served a piece."""

    work: float = 90.0
    """When other clients get the client's pieces. A client is also silent while it fetches a slow piece."""
    client: float = 300.0
    """When a client whose run has not ended is removed."""
    provider: float = 600.0
    """When a client whose run has ended is removed. It can serve pieces for minutes without a request."""
    lease: float = 600.0
    """When the lease of the client's task ends, since the last request. Not shorter than the other lifetimes."""


@dataclass(slots=True, eq=False)
class Client:
    """One run of dfget with one task."""

    cid: str
    host: str
    """The source address of its registration."""
    session: PeerSession
    task_id: str
    generation: str
    """The generation of the content of the client's pieces."""
    piece_size: int
    md5: str
    """The md5 that the file must have. Empty: any content is accepted."""
    last_alive: float
    """When the client last sent a request or served a piece, in monotonic seconds."""
    waits_since: float = math.inf
    """Since when the client waits for an origin that fails. Infinite: the origin does not fail, or sent a piece."""
    released: bool = False
    finished: bool = False
    uploads: int = 0
    """The number of pieces that this client had served at the last check."""
    entries: dict[tuple[int, str], PieceEntry] = field(default_factory=dict)
    """The entries of the last answer by piece and provider. Each answer repeats the entries without a report."""
    failure_kinds: dict[str, str] = field(default_factory=dict)
    """The kinds of failures, by the range of the piece or by provider. The client sends them before the failures."""

    @property
    def name(self) -> str:
        return self.session.peer


class Clients:
    """All known clients, by task and client ID (``cid``)."""

    def __init__(
        self, managers: Managers, dispatcher: Dispatcher, *, clock: Callable[[], float], lifetimes: ClientLifetimes
    ) -> None:
        self.lifetimes = lifetimes
        self._managers = managers
        self._dispatcher = dispatcher
        self._clock = clock
        self._clients: dict[tuple[str, str], Client] = {}
        self._by_address: Counter[str] = Counter()

    def is_full(self, host: str) -> bool:
        """True if no further client of an address can be added."""
        return len(self._clients) >= _MAX_CLIENTS or self._by_address[host] >= _MAX_OF_ADDRESS

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
        """Add a client to the task's swarm. A client that is already there starts again.

        ``host`` is the source address of its connection. A client that registers another address cannot be a provider.
        """
        former = self.get(task.id, registration.cid)
        if former is not None:
            self.remove(former)
        name = f"dfget:{registration.cid}~{task.id}"  # not a node's name, and 25 characters or more
        port = registration.port if registration.ip == host else 0
        session = PeerSession(name, boot=secrets.token_hex(8), path=registration.path)
        session.open_tasks[task.id] = 0
        self._dispatcher.add(session, SwarmPeer(name, host, port, secrets.token_bytes(32)))
        self._managers.dfget_tasks.add(name, task.id)
        self._managers.progress.init_progress(task.id, name)
        task.fetchers.add(name)
        copy, md5 = task.copy, registration.md5
        client = Client(registration.cid, host, session, task.id, copy.generation, copy.piece_size, md5, self._clock())
        self._clients[task.id, registration.cid] = client
        self._by_address[host] += 1
        return client

    def restart(self, client: Client, task: Task) -> None:
        """Let a client continue with the current generation. It reports again which pieces it has."""
        client.generation, client.entries = task.copy.generation, {}
        self._managers.progress.init_progress(task.id, client.name)

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
        if self._clients.pop((client.task_id, client.cid), None) is not None:
            self._by_address[client.host] -= 1
            if not self._by_address[client.host]:
                del self._by_address[client.host]
        task = self._managers.tasks.get(client.task_id)
        if task is not None:
            task.fetchers.discard(client.name)
        self._dispatcher.forget(client.session)

    def tick(self) -> None:
        """Take back the pieces of silent clients, and later remove the clients. Call about once a second."""
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
    """The number of the wrapped piece with the range ``text``.

    Raises :class:`InvalidValueError` if the range does not match a piece, :class:`NotFoundError` if the piece is after
    the end of the file, and :class:`ConflictError` while the task has no content.
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
