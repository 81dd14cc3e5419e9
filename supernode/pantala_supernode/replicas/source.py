"""Reads a file from other replicas if they have it, or else from the origin."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import structlog

from pantala_process.flight import cancel_all
from pantala_protocol.statement import Member
from pantala_protocol.task_id import TaskID
from pantala_supernode import errors
from pantala_supernode.origin.body import ChunkBody
from pantala_supernode.origin.limits import Gate
from pantala_supernode.origin.source import Answer, Provenance, Resume, SourceReader
from pantala_supernode.replicas.client import ReplicaClient, SourceRequest
from pantala_supernode.replicas.decision import Act, CopyReport, Need, Stage, decide
from pantala_supernode.replicas.membership import ReplicaSet
from pantala_supernode.tasks.copy import FetchOrder, FileSource
from pantala_supernode.tasks.shares import Shares

_log = structlog.get_logger(__name__)

_COPIES = 16
"""The most files that are copied from other replicas at the same time. The limit bounds the bytes in memory."""
_FIRST_PAUSE, _PAUSE = 0.02, 1.0
"""The first and the longest pause between two rounds of requests to all replicas, in seconds."""
_IDLE = 10.0
"""Seconds to wait for an owner that was asked for a file and does nothing. After that, this replica may read it."""
_RENEWAL = 20.0
"""Seconds between two requests that renew the lease at the owner: a third of the lease."""
_FINAL_REPORTS = 4
_ALL = 1 << 62
"""A position after the end of any file."""


def _of_origin() -> dict[str, type[errors.SupernodeError]]:
    """The error classes, by reason, of failures that each replica would have at the origin."""
    kinds: list[type[errors.SupernodeError]] = [errors.DigestMismatchError, errors.SourceError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    return {kind.reason: kind for kind in reversed(kinds)}


class ReplicaSource:
    """Copies files from the replicas that have them. Lets only one replica read the origin."""

    def __init__(self, replicas: ReplicaSet, client: ReplicaClient, shares: Shares | None = None) -> None:
        self.replicas = replicas
        self.client = client
        self.shares = shares or Shares()
        self.gate = Gate(_COPIES)
        self.wrong: set[tuple[str, str]] = set()
        """Copies with a wrong digest, as pairs of replica and generation. They are not copied again."""
        self._stages: dict[TaskID, Stage] = {}

    def stage(self, task_id: TaskID) -> Stage:
        return self._stages.get(task_id, Stage.IDLE)

    def enter(self, task_id: TaskID, stage: Stage) -> None:
        """Set the stage of a task, which the next reports to other replicas show."""
        self._stages[task_id] = stage

    @asynccontextmanager
    async def trying(self, order: FetchOrder, origin: SourceReader) -> AsyncIterator[SourceReader]:
        try:
            yield _Try(self, order, origin)
        finally:
            self._stages.pop(order.task_id, None)


@dataclass(frozen=True, slots=True)
class _Provider:
    replica: Member
    report: CopyReport
    end: int | None


class _Try:
    """One try to complete a copy."""

    def __init__(self, source: ReplicaSource, order: FetchOrder, origin: SourceReader) -> None:
        self._source = source
        self._replicas = source.replicas
        self._client = source.client
        self._order = order
        self._origin = origin
        self._helper: Member | None = None
        """The owner, once it has accepted this replica's request to fetch the file."""
        self._idle = 0.0

    @asynccontextmanager
    async def open(self, source: FileSource, resume: Resume | None = None) -> AsyncIterator[Answer]:
        provider = await self._find(resume)
        if provider is None:
            async with self._origin.open(source, resume) as answer:
                yield answer
            return
        _log.info("copying a file from another replica", task=self._order.task_id, replica=provider.replica.name)
        async with self._source.gate.place(self._source.shares.claim(source)), self._copy(provider, resume) as answer:
            yield answer

    async def _find(self, resume: Resume | None) -> _Provider | None:
        """Ask the other replicas until one of them can provide the file, and return that replica.

        ``None``: this replica must read the origin.
        """
        task_id = self._order.task_id
        if not self._replicas.others or self._source.stage(task_id) is Stage.READING:
            self._source.enter(task_id, Stage.READING)
            return None
        owner = self._replicas.other_owner(task_id)
        claimed, pause = owner is None, _FIRST_PAUSE
        while True:
            self._source.enter(task_id, Stage.CLAIMING if claimed else Stage.ASKING)
            reports = await self._ask()
            found = decide(
                self._need(owner, resume, claimed=claimed),
                {replica.name: report for replica, report in reports.items()},
            )
            if found.act is Act.READ and not any(map(self._client.in_doubt, self._replicas.others)):
                self._source.enter(task_id, Stage.READING)
                return None
            if found.act is Act.TAKE:
                self._source.enter(task_id, Stage.COPYING)
                replica = next(replica for replica in reports if replica.name == found.provider)
                return _Provider(replica, reports[replica] or CopyReport(task_id, Stage.IDLE), found.end)
            if found.act is Act.WANT and owner is not None and not await self._want(owner, pause):
                owner = None
            claimed = found.act in (Act.CLAIM, Act.READ)
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, _PAUSE)

    def _need(self, owner: Member | None, resume: Resume | None, *, claimed: bool) -> Need:
        return Need(
            self._replicas.name,
            owner.name if owner is not None else None,
            claimed,
            resume.generation if resume is not None else "",
            _ALL if resume is not None and resume.complete else resume.offset if resume is not None else 0,
            pinned=self._order.source.digest is not None,
        )

    async def _ask(self) -> dict[Member, CopyReport | None]:
        """The reports of all other replicas that answer. ``None``: the replica's copy had a wrong digest."""
        others = self._replicas.others
        asked = (self._client.report(replica, self._order.task_id) for replica in others)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        reports: dict[Member, CopyReport | None] = {}
        for replica, report in zip(others, answers, strict=True):
            if isinstance(report, BaseException):
                if not isinstance(report, errors.ReplicaError):
                    raise report
            else:
                wrong = report is not None and (replica.name, report.generation) in self._source.wrong
                reports[replica] = None if wrong else report
        return reports

    async def _want(self, owner: Member, pause: float) -> bool:
        """Ask the owner to fetch the file. Returns whether it does. Raises its error if the origin is the cause."""
        try:
            report = await self._request(owner)
        except errors.ReplicaError:
            return False
        self._helper = owner
        if report is None or report.stage is not Stage.IDLE or report.whole:
            self._idle = 0.0
            return True
        if report.failure is not None:
            kind = _of_origin().get(report.failure.reason)
            if kind is not None and not self._order.source.origin:  # a blob's owner may have asked another repository
                raise kind(report.failure.message)
            return False  # a failure of the owner itself, e.g. its volume is full
        self._idle += pause
        return self._idle < _IDLE

    async def _request(self, owner: Member) -> CopyReport | None:
        source = self._order.source
        request = SourceRequest(
            source.url,
            dict(source.headers),
            source.digest or "",
            source.attempt,
            source.pod_identity,
            tuple(sorted(source.tenants)),
            source.origin,
        )
        return await self._client.want(owner, self._order.task_id, request)

    @asynccontextmanager
    async def _copy(self, provider: _Provider, resume: Resume | None) -> AsyncIterator[Answer]:
        report, replica = provider.report, provider.replica
        same = resume is not None and resume.generation == report.generation
        provenance = Provenance(
            report.generation,
            report.piece_size,
            report.origin_bytes,
            report.digest,
            provider.end,
            report.origins,
            on_wrong=lambda: self._source.wrong.add((replica.name, report.generation)),
        )
        answer = Answer(report.length, 0, report.etag, report.last_modified, True, ChunkBody(_no_chunks()))
        if resume is not None and resume.complete and same:
            yield replace(answer, unchanged=True)
            return
        start = resume.offset if resume is not None and same else 0
        renewal = asyncio.create_task(self._renew())
        content = self._client.content(replica, self._order.task_id, report.generation, start, provider.end)
        try:
            async with content as body:
                chunks = self._chunks(body, provider, provenance)
                try:
                    yield replace(answer, offset=start, body=ChunkBody(chunks), provenance=provenance)
                finally:
                    await chunks.aclose()
        finally:
            await cancel_all([renewal])

    async def _chunks(
        self, body: AsyncIterator[bytes], provider: _Provider, provenance: Provenance
    ) -> AsyncGenerator[bytes, None]:
        async for chunk in body:
            yield chunk
        if provider.end is not None:
            return
        report = await self._final_report(provider.replica)
        if report is None or not report.whole or report.generation != provenance.generation:
            raise errors.ReplicaError.with_action(
                f"Replica {provider.replica.name} sent all bytes, but does not report a complete copy"
            )
        provenance.digest, provenance.origin_bytes = report.digest, report.origin_bytes

    async def _final_report(self, replica: Member) -> CopyReport | None:
        """The replica's report after its last byte, with the digest. A silent replica is asked again a few times."""
        for _ in range(_FINAL_REPORTS - 1):
            try:
                return await self._client.report(replica, self._order.task_id)
            except errors.ReplicaError:
                await asyncio.sleep(1.0)
        return await self._client.report(replica, self._order.task_id)

    async def _renew(self) -> None:
        while self._helper is not None:
            await asyncio.sleep(_RENEWAL)
            try:
                await self._request(self._helper)
            except errors.ReplicaError:
                continue


async def _no_chunks() -> AsyncIterator[bytes]:
    return
    yield
