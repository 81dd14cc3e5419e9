"""The conversation with one supernode: state what is wanted, hear what became of it, never give up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from pantala_operator.backoff import Backoff
from pantala_operator.errors import SupernodeCallError
from pantala_operator.ports import Clock, SupernodeAPI
from pantala_protocol.images import WantedImage
from pantala_protocol.membership import Membership
from pantala_protocol.registry import Resolve, Resolved
from pantala_protocol.statement import Changes, Statement, WantedTask

log = structlog.get_logger(__name__)

_WAIT = 20.0
"""Seconds an answer is held open while nothing changed."""
_PACE = 0.2
"""Seconds between two statements: what comes in bursts is said at once."""

_BREATH = 0.1
"""Seconds between two answers: progress of many tasks comes together."""


@dataclass(frozen=True, slots=True)
class DesiredState:
    """What a statement says."""

    tasks: tuple[WantedTask, ...] = ()
    membership: Membership | None = None
    images: tuple[WantedImage, ...] = ()
    survey: tuple[str, ...] = ()


class SupernodeClient:
    """Speaks and listens until cancelled. What is heard goes to ``heard``; silence and its end to ``away``."""

    def __init__(
        self,
        member: str,
        supernode: SupernodeAPI,
        clock: Clock,
        patience: float,
        heard: Callable[[Changes], None],
        away: Callable[[str], None],
        told: Callable[[], None],
    ) -> None:
        """``member``: the supernode's name among the members; empty if it is the only one and has none.

        ``patience``: seconds of silence before ``away`` is told why; it is told ``""`` when all is well again.
        ``told``: called after each statement that it took.
        """
        self._member = member
        self._supernode = supernode
        self._clock = clock
        self._patience = patience
        self._heard = heard
        self._away = away
        self._told = told
        self._boot = ""
        self._version = 0
        self._revision = 0
        self._in_force = 0
        self._wanted: DesiredState | None = None
        self._stated: DesiredState | None = None
        self._news = asyncio.Event()
        self._silent_since: dict[str, float] = {}
        self._reason = ""

    def want(self, wish: DesiredState) -> None:
        """All that is wanted from now on, and who the supernodes are."""
        self._wanted = wish
        if self._wanted != self._stated:
            self._news.set()

    @property
    def bare(self) -> bool:
        """Whether no task is wanted of the supernode, and it knows. What it says of images, others say, too."""
        stated = self._stated
        return stated is not None and stated == self._wanted and not stated.tasks

    async def resolve(self, question: Resolve) -> Resolved:
        """Ask an image's registry through the supernode. Raises :class:`SupernodeCallError`."""
        return await self._supernode.resolve(question)

    async def run(self) -> None:
        """Speak and listen, for ever."""
        try:
            async with asyncio.TaskGroup() as group:
                for part in (self.listen(), self.speak(), self.watch()):
                    group.create_task(part)
        finally:
            await self._supernode.close()

    async def listen(self) -> None:
        """Hear what changed."""
        backoff = Backoff(0.5, 8)
        while True:
            # The first answers come at once, so that what is known of the supernode is not old.
            wait = _WAIT if self._boot and "listen" not in self._silent_since else 0.0
            try:
                changes = await self._supernode.changes(self._boot, self._version, wait)
            except SupernodeCallError as error:
                self._fail("listen", error)
                await backoff.pause()
                continue
            backoff.reset()
            self._succeed("listen")
            self._boot, self._version = changes.boot, changes.version
            self._in_force = changes.revision
            if changes.revision != self._revision:
                self._stated = None
                self._news.set()
            self._heard(changes)
            await asyncio.sleep(_BREATH)

    async def speak(self) -> None:
        """State what is wanted whenever that differs from what the supernode was told last."""
        backoff = Backoff(0.5, 8)
        while True:
            await self._news.wait()
            self._news.clear()
            wanted = self._wanted
            if wanted is None or wanted == self._stated:
                continue
            # Grows beyond that of an operator that ran before, without anything kept, also by a clock that went back.
            revision = max(self._revision + 1, self._in_force + 1, int(self._clock.now().timestamp() * 1000))
            if wanted.membership is not None:
                revision = max(revision, wanted.membership.revision)
            said = Statement(revision, wanted.tasks, wanted.membership, self._member, wanted.images, wanted.survey)
            try:
                receipt = await self._supernode.state(said)
            except SupernodeCallError as error:
                self._fail("speak", error)
                self._news.set()
                await backoff.pause()
                continue
            backoff.reset()
            self._succeed("speak")
            self._revision, self._stated = receipt.revision, wanted
            self._told()
            await asyncio.sleep(_PACE)

    async def watch(self) -> None:
        """Tell ``away`` when silence has lasted."""
        told = ""
        while True:
            now = self._clock.monotonic()
            lasting = [since for since in self._silent_since.values() if now - since >= self._patience]
            reason = self._reason if lasting else ""
            if bool(reason) != bool(told):
                self._away(reason)
                told = reason
            await asyncio.sleep(min(1.0, self._patience / 4))

    def _fail(self, what: str, error: SupernodeCallError) -> None:
        self._reason = str(error)
        if what not in self._silent_since:
            log.warning(
                "The supernode did not do what was asked; it is tried again",
                supernode=self._member, what=what, error=str(error),
            )  # fmt: skip
            self._silent_since[what] = self._clock.monotonic()

    def _succeed(self, what: str) -> None:
        if self._silent_since.pop(what, None) is not None:
            log.info("The supernode does what is asked again", supernode=self._member, what=what)
