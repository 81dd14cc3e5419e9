"""Keeps one client for each supernode, started and stopped as supernodes are added and removed."""

import asyncio
from collections.abc import Callable, Sequence

from pantala_operator.events import LeadershipChanged, OperatorEvents
from pantala_operator.ports import Clock, SupernodeAPI
from pantala_operator.supernodes.client import SupernodeClient
from pantala_operator.term import Term
from pantala_protocol.statement import Member

Connect = Callable[[str], SupernodeAPI]
"""Connects to the supernode at a URL."""


class SupernodeClients:
    """All clients, by the supernode's name."""

    def __init__(self, connect: Connect, events: OperatorEvents, clock: Clock, patience: float, term: Term) -> None:
        """``patience``: seconds of silence until a supernode counts as unreachable."""
        self._connect = connect
        self._events = events
        self._clock = clock
        self._patience = patience
        self._term = term
        self._clients: dict[str, SupernodeClient] = {}
        self._tasks: dict[SupernodeClient, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        events.subscribe(LeadershipChanged, self._on_leadership)

    def set_replicas(self, members: Sequence[Member]) -> None:
        """Keep clients for exactly these supernodes."""
        urls = {member.name: member.url for member in members}
        for name, client in list(self._clients.items()):
            if urls.get(name) != client.url:
                client.mute()
                del self._clients[name]
        for name, url in urls.items():
            if name not in self._clients:
                api = self._connect(url)
                self._clients[name] = SupernodeClient(
                    name, url, api, self._events, self._clock, self._patience, self._term
                )
        self._changed.set()

    def _on_leadership(self, _: LeadershipChanged) -> None:
        for client in self._clients.values():
            client.wake()

    def client(self, name: str) -> SupernodeClient:
        return self._clients[name]

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                await self._changed.wait()
                self._changed.clear()
                wanted = set(self._clients.values())
                for client in self._tasks.keys() - wanted:
                    self._tasks.pop(client).cancel()
                for client in wanted - self._tasks.keys():
                    self._tasks[client] = group.create_task(client.run())
