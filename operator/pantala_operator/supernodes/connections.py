"""One conversation with each supernode, begun and ended as they come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from pantala_operator.ports import Clock, SupernodeAPI
from pantala_operator.supernodes.client import DesiredState, SupernodeClient
from pantala_protocol.membership import Member
from pantala_protocol.registry import Resolve, Resolved
from pantala_protocol.statement import Changes

Connect = Callable[[str], SupernodeAPI]
"""Makes the client of the supernode at a URL."""


class SupernodeClients:
    """Runs until cancelled. What is heard goes to ``heard``; silence and its end to ``away``; both by member."""

    def __init__(
        self,
        connect: Connect,
        clock: Clock,
        patience: float,
        heard: Callable[[str, Changes], None],
        away: Callable[[str, str], None],
        told: Callable[[], None],
    ) -> None:
        """Speak with nobody yet. ``patience``: seconds of silence before ``away`` is told why.

        ``told``: called after each statement that one of them took.
        """
        self._connect = connect
        self._clock = clock
        self._patience = patience
        self._heard = heard
        self._away = away
        self._told = told
        self._with: dict[str, tuple[str, SupernodeClient]] = {}
        self._tasks: dict[SupernodeClient, asyncio.Task[None]] = {}
        self._news = asyncio.Event()

    def settle(self, members: Sequence[Member]) -> None:
        """Speak with these from now on, and with nobody else."""
        there = {member.name: member.url for member in members}
        for name, (url, _) in list(self._with.items()):
            if there.get(name) != url:
                del self._with[name]
        for name, url in there.items():
            if name not in self._with:
                self._with[name] = (url, self._conversation(name, url))
        self._news.set()

    def want(self, wishes: Mapping[str, DesiredState]) -> None:
        """All that is wanted from now on of each member named; of others what was wanted before."""
        for name, wish in wishes.items():
            self._with[name][1].want(wish)

    async def resolve(self, name: str, question: Resolve) -> Resolved:
        """Ask an image's registry through a member. Raises :class:`pantala_operator.errors.SupernodeCallError`."""
        return await self._with[name][1].resolve(question)

    def is_bare(self, name: str) -> bool:
        """Whether no task is wanted of a member, and it knows."""
        return self._with[name][1].bare

    async def run(self) -> None:
        """Speak and listen, for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._news.wait()
                self._news.clear()
                wanted = {conversation for _, conversation in self._with.values()}
                for conversation in self._tasks.keys() - wanted:
                    self._tasks.pop(conversation).cancel()
                for conversation in wanted - self._tasks.keys():
                    self._tasks[conversation] = group.create_task(conversation.run())

    def _conversation(self, name: str, url: str) -> SupernodeClient:
        def heard(changes: Changes) -> None:
            if self._is_current(conversation, name):
                self._heard(name, changes)

        def away(reason: str) -> None:
            if self._is_current(conversation, name):
                self._away(name, reason)

        conversation = SupernodeClient(name, self._connect(url), self._clock, self._patience, heard, away, self._told)
        return conversation

    def _is_current(self, conversation: SupernodeClient, name: str) -> bool:
        return name in self._with and self._with[name][1] is conversation
