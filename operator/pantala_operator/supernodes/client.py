"""Talks to one supernode: sends statements and receives reports. It retries until it is cancelled."""

import asyncio
from contextlib import suppress
from typing import NamedTuple

import structlog
from msgspec.structs import replace

from pantala_operator.errors import SupernodeCallError
from pantala_operator.events import (
    OperatorEvents,
    ProgressReported,
    StatementTaken,
    SupernodeReachability,
    SupernodeReported,
)
from pantala_operator.ports import Clock, SupernodeAPI
from pantala_operator.supernodes import statement_room
from pantala_operator.term import Term
from pantala_process.backoff import Backoff
from pantala_protocol.console.progress import Progress
from pantala_protocol.nodes import numbers
from pantala_protocol.registry import Resolve, Resolved
from pantala_protocol.statement import Statement

log = structlog.get_logger(__name__)

_WAIT = 20.0
"""Seconds that a supernode may delay its answer while nothing changes (long polling)."""
_STATEMENT_PAUSE = 0.2
"""Seconds between two statements, so that several changes share one."""
_REPORT_PAUSE = 0.1
"""Seconds between two requests for changes, so that the progress of many tasks shares one answer."""
_PROGRESS_PAUSE = 1.0
"""Seconds between two requests for progress while a download is unfinished. So a silent peer is named within 15 s."""
_LONG_PROGRESS_PAUSE = 2.0
"""Seconds between two requests for progress after a long answer, and while no download is unfinished."""
_LONG_ANSWER = 200
"""An answer about at least this many nodes is long."""
_OLDER_PAUSE = 10.0
"""Seconds until a supernode whose version sends no progress is asked again. It may have been upgraded."""


class _Form(NamedTuple):
    """What a supernode understands in statements. Former minor versions understand names only."""

    numbers: bool
    credentials: bool

    def of(self, content: Statement) -> Statement:
        return numbers.numbered(content, credentials=self.credentials) if self.numbers else content


class SupernodeClient:
    """Publishes what the supernode reports, each statement it accepts, and when it becomes unreachable."""

    def __init__(
        self, name: str, url: str, api: SupernodeAPI, events: OperatorEvents, clock: Clock, patience: float, term: Term
    ) -> None:
        """``name``: empty for a single supernode. ``patience``: seconds of silence until it counts as unreachable."""
        self.url = url
        self._name = name
        self._api = api
        self._events = events
        self._clock = clock
        self._patience = patience
        self._term = term
        self._muted = False
        self._boot = ""
        self._version = 0
        self._revision = 0
        self._in_force = 0
        self._form: _Form | None = None
        self._wanted: Statement | None = None
        self._stated: Statement | None = None
        self._changed = asyncio.Event()
        self._silent_since: dict[str, float] = {}
        self._error = ""

    def want(self, desired: Statement) -> None:
        """Send a statement with this content, unless the last statement had the same content.

        Tasks and images are sorted by age, the oldest first. The client sets the revision, the member and the epoch.
        """
        self._wanted = desired
        if self._wanted != self._stated:
            self._changed.set()

    def wake(self) -> None:
        """Check again whether a statement may be sent."""
        self._changed.set()

    def mute(self) -> None:
        """Publish no more events: the supernode was removed, or has another URL."""
        self._muted = True

    @property
    def is_empty(self) -> bool:
        """True if the supernode has accepted the newest statement, and this statement has no tasks."""
        stated = self._stated
        return stated is not None and stated == self._wanted and not stated.tasks

    async def resolve(self, question: Resolve) -> Resolved:
        """Ask an image's registry through the supernode. Raises ``SupernodeCallError``."""
        return await self._api.resolve(question)

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for part in (self._receive(), self._state(), self._watch_silence(), self._ask_progress()):
                    group.create_task(part)
        finally:
            await self._api.close()

    async def _receive(self) -> None:
        backoff = Backoff(0.5, 8)
        while True:
            # The first requests do not wait for a change, so that the report is current at once.
            wait = _WAIT if self._boot and "changes" not in self._silent_since else 0.0
            try:
                changes = await self._api.changes(self._boot, self._version, wait)
            except SupernodeCallError as error:
                self._fail("changes", error)
                await backoff.pause()
                continue
            backoff.reset()
            self._succeed("changes")
            self._boot, self._version = changes.boot, changes.version
            self._in_force = changes.revision
            former, self._form = self._form, _Form(changes.numbers, changes.credentials)
            if changes.revision != self._revision or former != self._form:
                self._stated = None
                self._changed.set()
            self._publish(SupernodeReported(self._name, changes))
            await asyncio.sleep(_REPORT_PAUSE)

    async def _state(self) -> None:
        """Send a statement whenever the desired state differs from the last sent statement."""
        backoff = Backoff(0.5, 8)
        while True:
            await self._changed.wait()
            self._changed.clear()
            wanted = self._wanted
            form = self._form
            if form is None or wanted is None or wanted == self._stated or not self._term.may_state:
                continue
            # The revision must exceed those of earlier operators, although none is stored and clocks may go back.
            revision = max(self._revision + 1, self._in_force + 1, int(self._clock.now().timestamp() * 1000))
            if wanted.membership is not None:
                revision = max(revision, wanted.membership.revision)
            content = replace(wanted, revision=revision, member=self._name, epoch=self._term.epoch)
            # Other connections and the health check continue while a thread measures a large statement.
            fitted = await asyncio.to_thread(statement_room.fit, content, form.of)
            try:
                receipt = await self._api.state(fitted.statement)
            except SupernodeCallError as error:
                self._fail("statement", error)
                self._changed.set()
                await backoff.pause()
                continue
            backoff.reset()
            self._succeed("statement")
            self._revision, self._stated = receipt.revision, wanted if form == self._form else None
            self._publish(StatementTaken(self._name, fitted.statement.tasks, receipt.revision, fitted.cut))
            await asyncio.sleep(_STATEMENT_PAUSE)

    async def _ask_progress(self) -> None:
        """Ask for the progress of downloads again and again, while this replica leads."""
        while True:
            began, progress, pause = self._clock.monotonic(), None, _LONG_PROGRESS_PAUSE
            if self._term.leads:
                with suppress(SupernodeCallError):  # the tasks for statements and changes report the problem
                    progress = await self._api.progress()
                    pause = _OLDER_PAUSE if progress is None else _pause(progress)
                self._publish(ProgressReported(self._name, progress))
            # The requests have equal distances, because rates that are read once a second add up to the bytes.
            await asyncio.sleep(max(pause - (self._clock.monotonic() - began), pause / 2))

    async def _watch_silence(self) -> None:
        published = ""
        while True:
            now = self._clock.monotonic()
            lasting = any(now - since >= self._patience for since in self._silent_since.values())
            problem = self._error if lasting else ""
            if bool(problem) != bool(published):
                self._publish(SupernodeReachability(self._name, problem))
                published = problem
            await asyncio.sleep(min(1.0, self._patience / 4))

    def _publish(self, event: object) -> None:
        if not self._muted:
            self._events.publish(event)

    def _fail(self, call: str, error: SupernodeCallError) -> None:
        self._error = str(error)
        if call not in self._silent_since:
            log.warning(
                "A call to the supernode failed. The operator retries.",
                supernode=self._name, call=call, error=str(error),
            )  # fmt: skip
            self._silent_since[call] = self._clock.monotonic()

    def _succeed(self, call: str) -> None:
        if self._silent_since.pop(call, None) is not None:
            log.info("Calls to the supernode succeed again", supernode=self._name, call=call)


def _pause(progress: Progress) -> float:
    """Seconds until the next request for progress."""
    nodes = sum(len(each.nodes) for each in progress.tasks)
    return _PROGRESS_PAUSE if progress.tasks and nodes < _LONG_ANSWER else _LONG_PROGRESS_PAUSE
