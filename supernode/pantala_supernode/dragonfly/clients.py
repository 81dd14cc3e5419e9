"""The runs of dfget that are known: each is a client of one task's swarm, and maybe a provider after it ended."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pantala_supernode.dragonfly.wire import Entry, Registration
from pantala_supernode.swarm.peer import SwarmPeer
from pantala_supernode.swarm.scheduler import Managers
from pantala_supernode.sync.dispatch import Dispatcher
from pantala_supernode.sync.session import PeerSession
from pantala_supernode.tasks.task import Task

_MOST = 50_000
"""Clients that are known at once."""


@dataclass(frozen=True, slots=True)
class Lasting:
    """How long things last after a client's last word, in seconds."""

    given: float = 90.0
    """What it was given is free again. It says nothing while it fetches one slow piece."""
    client: float = 300.0
    """It is forgotten if it did not end."""
    provider: float = 600.0
    """It is forgotten. Its uploader lives for minutes after it, without a word."""
    lease: float = 600.0
    """The task is not wanted any more; no shorter than any client of it is known."""


@dataclass(slots=True, eq=False)
class Client:
    """One run of dfget with one task."""

    cid: str
    session: PeerSession
    task_id: str
    generation: str
    """Of the content that it was told about."""
    md5: str
    """That the whole must have; empty: any."""
    heard_at: float
    """Its last word, or the last time that somebody took a piece from it; monotonic seconds."""
    released: bool = False
    finished: bool = False
    took: int = 0
    """Pieces that others had taken from it when it was last looked at."""
    told: dict[tuple[int, str], Entry] = field(default_factory=dict)
    """What it was told of the pieces that it was given, by piece and provider: it is told again with each pull."""
    hints: dict[str, str] = field(default_factory=dict)
    """What it said of a piece (by range) or provider just before it reports the failure: the failure's kind."""

    @property
    def name(self) -> str:
        """Its name among the peers."""
        return self.session.peer


class Clients:
    """All of them, by task and cid."""

    def __init__(
        self, managers: Managers, dispatcher: Dispatcher, *, clock: Callable[[], float], lasting: Lasting
    ) -> None:
        self.lasting = lasting
        self._managers = managers
        self._dispatcher = dispatcher
        self._clock = clock
        self._clients: dict[tuple[str, str], Client] = {}

    @property
    def full(self) -> bool:
        """No more can be taken: nobody has to prove who it is, so there is an end to it."""
        return len(self._clients) >= _MOST

    def __iter__(self) -> Iterator[Client]:
        return iter(list(self._clients.values()))

    def get(self, task_id: str, cid: str) -> Client | None:
        """A client, if it is known."""
        return self._clients.get((task_id, cid))

    def enrol(self, registration: Registration, task: Task, host: str) -> Client:
        """Let a client take part in a task's swarm, from the start; it may have been there before.

        ``host`` is where its connection came from. Who gives another address cannot be told to others.
        """
        former = self.get(task.id, registration.cid)
        if former is not None:
            self.forget(former)
        name = f"dfget:{registration.cid}~{task.id}"  # no node's name, and long enough for the clients' logs
        port = registration.port if registration.ip == host else 0
        session = PeerSession(name, boot=secrets.token_hex(8), path=registration.path)
        session.open_tasks[task.id] = None
        self._dispatcher.sessions[name] = session
        self._managers.peers.register(SwarmPeer(name, session.boot, host, port, secrets.token_bytes(32)))
        self._managers.dfget_tasks.add(name, task.id)
        self._managers.progress.init_progress(task.id, name)
        task.fetchers.add(name)
        client = Client(registration.cid, session, task.id, task.copy.generation, registration.md5, self._clock())
        self._clients[task.id, registration.cid] = client
        return client

    def heard(self, client: Client) -> None:
        """A client spoke."""
        client.heard_at, client.released = self._clock(), False
        self._managers.tasks.renew(client.task_id, until=client.heard_at + self.lasting.lease)

    def forget(self, client: Client) -> None:
        """A client is gone."""
        self._clients.pop((client.task_id, client.cid), None)
        task = self._managers.tasks.get(client.task_id)
        if task is not None:
            task.fetchers.discard(client.name)
        self._dispatcher.forget(client.session)

    def of(self, task_id: str) -> Iterator[Client]:
        """The clients of a task."""
        task = self._managers.tasks.get(task_id)
        for name in tuple(task.fetchers) if task is not None else ():
            client = self.get(task_id, name.removeprefix("dfget:").removesuffix(f"~{task_id}"))
            if client is not None:
                yield client

    def tick(self) -> None:
        """Notice who is silent; to be called about once a second."""
        now = self._clock()
        for client in self:
            took = self._managers.progress.service[client.name].succeeded
            if took != client.took:
                client.took, client.heard_at = took, now
            silent = now - client.heard_at
            if silent > (self.lasting.provider if client.finished else self.lasting.client):
                self.forget(client)
            elif silent > self.lasting.given and not client.released:
                client.released = True
                self._dispatcher.release(client.session)
