"""A fake supernode. tests/integration/test_supernode_port.py compares it with the real one."""

import asyncio

import msgspec

from pantala_operator.errors import SupernodeCallError, SupernodeRefusedError
from pantala_protocol import task_id
from pantala_protocol.console.progress import Progress
from pantala_protocol.images import PullState, RuntimeState, WantedImage
from pantala_protocol.nodes import numbers
from pantala_protocol.registry import Resolve, Resolved
from pantala_protocol.statement import Changes, PeerReport, Statement, StatementReceipt, TaskReport, WantedTask

_MISSING = Resolved(reason="NotFound", message="no such image")


class MemorySupernode:
    """A :class:`pantala_operator.ports.SupernodeAPI` in memory. Tests write its reports."""

    def __init__(self) -> None:
        self.outage: SupernodeCallError | None = None
        """Raised by every call while it is set."""
        self.statements: list[Statement] = []
        """All statements that were received, also before a restart. They have names instead of numbers."""
        self.sent: list[Statement] = []
        """The same statements as they were sent."""
        self.questions: list[Resolve] = []
        """The questions to registries."""
        self.registry: dict[str, Resolved | SupernodeCallError] = {}
        """The registries' answers, by tag. All other images do not exist. A digest stays when its tag moves."""
        self._resolved: dict[str, Resolved] = {}
        self.numbers = True
        """False: the supernode is of the former minor version, and understands names only."""
        self.refused: list[int] = []
        """The epochs of statements that were refused, because a later one is known."""
        self.epoch = 0
        self.shown: Progress | None = None
        """The progress of downloads. ``None``: the supernode is older, and does not have any."""
        self.boot = "boot-1"
        self._revision = 0
        self._version = 0
        self._reports: dict[str, tuple[int, TaskReport]] = {}
        self._peers: dict[str, tuple[int, PeerReport]] = {}
        self._gone: dict[str, int] = {}
        self._changed = asyncio.Condition()

    @property
    def wanted(self) -> dict[str, WantedTask]:
        return {each.name: each for each in self.statements[-1].tasks} if self.statements else {}

    @property
    def images(self) -> dict[str, WantedImage]:
        return {each.key: each for each in self.statements[-1].images} if self.statements else {}

    @property
    def survey(self) -> set[str]:
        return set(self.statements[-1].survey) if self.statements else set()

    async def say(self, name: str, pulls: dict[str, PullState], runtime: RuntimeState | None = None) -> None:
        """Let the node ``name`` report its pulls, and the state of its runtime."""
        self._version += 1
        _, known = self._peers.get(name, (0, PeerReport(name, True, "10.0.0.1", 65002)))
        known = msgspec.structs.replace(known, pulls=known.pulls | pulls, runtime=runtime or known.runtime)
        self._peers[name] = (self._version, known)
        await self._wake()

    async def report(self, report: TaskReport) -> None:
        self._version += 1
        self._reports[report.uid] = (self._version, report)
        await self._wake()

    async def connect(self, *names: str, connected: bool = True) -> None:
        self._version += 1
        for name in names:
            _, known = self._peers.get(name, (0, PeerReport(name, connected, "10.0.0.1", 65002)))
            self._peers[name] = (self._version, msgspec.structs.replace(known, connected=connected))
        await self._wake()

    async def restart(self) -> None:
        self.boot = f"boot-{int(self.boot.removeprefix('boot-')) + 1}"
        self._revision = self._version = 0
        for kept in (self._reports, self._peers, self._gone):
            kept.clear()
        await self._wake()

    async def state(self, statement: Statement) -> StatementReceipt:
        self._check()
        try:
            for wanted in statement.tasks:
                task_id.parse(wanted.task_id)
        except ValueError as error:
            raise SupernodeRefusedError(str(error)) from error
        if 0 < statement.epoch < self.epoch:
            self.refused.append(statement.epoch)
            raise SupernodeRefusedError(f"another operator leads since epoch {self.epoch}")
        if statement.epoch <= self.epoch and statement.revision < self._revision:
            raise SupernodeRefusedError(f"revision {self._revision} is in force")
        self.epoch = max(self.epoch, statement.epoch)
        self.sent.append(statement)
        statement = numbers.named(statement)
        self.statements.append(statement)
        self._revision = statement.revision
        self._version += 1
        uids = {task.uid for task in statement.tasks}
        for uid in self._reports.keys() - uids:
            del self._reports[uid]
            self._gone[uid] = self._version
        await self._wake()
        return StatementReceipt(self.boot, self._revision)

    async def changes(self, boot: str, since: int, wait: float) -> Changes:
        self._check()
        if boot == self.boot:
            try:
                async with asyncio.timeout(wait), self._changed:
                    await self._changed.wait_for(lambda: self._version > since or self.boot != boot)
            except TimeoutError:
                pass
        self._check()
        full = boot != self.boot
        after = -1 if full else since
        return Changes(
            boot=self.boot,
            version=self._version,
            revision=self._revision,
            full=full,
            tasks=tuple(report for version, report in self._reports.values() if version > after),
            gone=tuple(uid for uid, version in self._gone.items() if version > after),
            peers=tuple(report for version, report in self._peers.values() if version > after),
            numbers=self.numbers,
            credentials=self.numbers,
            epoch=self.epoch,
        )

    async def progress(self) -> Progress | None:
        self._check()
        return self.shown

    async def resolve(self, question: Resolve) -> Resolved:
        self._check()
        self.questions.append(question)
        name, _, digest = question.image.partition("@")
        tags = (each for each in self.registry if each.startswith(f"{name}:"))
        answer = self.registry.get(next(tags, name) if digest else name, _MISSING)
        if isinstance(answer, SupernodeCallError):
            raise answer
        self._resolved[answer.digest] = answer
        return self._resolved.get(digest, _MISSING) if digest and answer.digest else answer

    async def close(self) -> None: ...

    def _check(self) -> None:
        if self.outage is not None:
            raise self.outage

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()
