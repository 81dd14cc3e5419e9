"""Other supernodes before the origin: the adapter of :class:`pantala_supernode.origin.source.Replicas`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import structlog

from pantala_protocol.membership import Member
from pantala_protocol.task_id import TaskID
from pantala_supernode import errors
from pantala_supernode.origin.limits import Gate
from pantala_supernode.origin.source import Answer, Provenance, Resume, SourceReader
from pantala_supernode.replicas.client import ReplicaClient, SourceRequest
from pantala_supernode.replicas.decision import Act, CopyReport, Need, Stage, decide
from pantala_supernode.replicas.membership import ReplicaSet
from pantala_supernode.tasks.copy import FetchOrder, FileSource

_log = structlog.get_logger(__name__)

_COPIES = 16
"""Copies that are taken from others at once: what is in memory on its way to the disk is bounded."""
_FIRST_PAUSE, _PAUSE = 0.02, 1.0
"""Seconds between two rounds of questions: at first, and at most."""
_IDLE = 10.0
"""Seconds for which an owner may do nothing about a file; then it is read without it."""
_RENEWAL = 20.0
"""Seconds after which the owner is told again that a file is wanted: a third of what it remembers."""
_LAST_WORDS = 3
_ALL = 1 << 62
"""More bytes than any file has."""


def _of_origin() -> dict[str, type[errors.SupernodeError]]:
    """The errors that another supernode would meet as well, by reason."""
    kinds: list[type[errors.SupernodeError]] = [errors.DigestMismatchError, errors.SourceError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    return {kind.reason: kind for kind in reversed(kinds)}


_OF_ORIGIN = _of_origin()


class ReplicaSource:
    """Takes copies from the other supernodes where they have any, and lets one of all read the origin."""

    def __init__(self, members: ReplicaSet, client: ReplicaClient) -> None:
        self.members = members
        self.client = client
        self.gate = Gate(_COPIES)
        self.wrong: set[tuple[str, str]] = set()
        """Member and generation of copies that did not have the digest they should."""
        self._stages: dict[TaskID, Stage] = {}

    def stage(self, task_id: TaskID) -> Stage:
        """What this supernode is at with a file."""
        return self._stages.get(task_id, Stage.IDLE)

    def enter(self, task_id: TaskID, stage: Stage) -> None:
        """Be at another stage, for all who ask from now on."""
        self._stages[task_id] = stage

    @asynccontextmanager
    async def trying(self, order: FetchOrder, origin: SourceReader) -> AsyncIterator[SourceReader]:
        """See :meth:`pantala_supernode.origin.source.Replicas.trying`."""
        try:
            yield _Try(self, order, origin)
        finally:
            self._stages.pop(order.task_id, None)


@dataclass(frozen=True, slots=True)
class _Giver:
    member: Member
    report: CopyReport
    end: int | None


class _Try:
    """One try to complete a copy."""

    def __init__(self, siblings: ReplicaSource, order: FetchOrder, origin: SourceReader) -> None:
        self._siblings = siblings
        self._members = siblings.members
        self._client = siblings.client
        self._order = order
        self._origin = origin
        self._lender: Member | None = None
        """The owner, if it wants the file for our sake."""
        self._idle = 0.0

    @asynccontextmanager
    async def open(self, source: FileSource, resume: Resume | None = None) -> AsyncIterator[Answer]:
        """See :meth:`pantala_supernode.origin.source.Source.open`; raises :class:`errors.ReplicaError`, too."""
        giver = await self._find(resume)
        if giver is None:
            async with self._origin.open(source, resume) as answer:
                yield answer
            return
        _log.info("a copy is taken from another supernode", task=self._order.task_id, member=giver.member.name)
        async with self._siblings.gate.place(source.priority), self._copy(giver, resume) as answer:
            yield answer

    async def _find(self, resume: Resume | None) -> _Giver | None:
        """Who gives the file; ``None``: the origin, which from now on nobody else reads."""
        task_id = self._order.task_id
        if not self._members.others or self._siblings.stage(task_id) is Stage.READING:
            self._siblings.enter(task_id, Stage.READING)
            return None
        owner = self._members.other_owner(task_id)
        claimed, pause = owner is None, _FIRST_PAUSE
        while True:
            self._siblings.enter(task_id, Stage.CLAIMING if claimed else Stage.ASKING)
            said = await self._ask()
            found = decide(self._need(owner, resume, claimed=claimed), {m.name: report for m, report in said.items()})
            if found.act is Act.READ and not any(map(self._client.in_doubt, self._members.others)):
                self._siblings.enter(task_id, Stage.READING)
                return None
            if found.act is Act.TAKE:
                self._siblings.enter(task_id, Stage.COPYING)
                member = next(member for member in said if member.name == found.giver)
                return _Giver(member, said[member] or CopyReport(task_id, Stage.IDLE), found.end)
            if found.act is Act.WANT and owner is not None and not await self._want(owner, pause):
                owner = None
            claimed = found.act in (Act.CLAIM, Act.READ)
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, _PAUSE)

    def _need(self, owner: Member | None, resume: Resume | None, *, claimed: bool) -> Need:
        return Need(
            self._members.name,
            owner.name if owner is not None else "",
            claimed,
            resume.generation if resume is not None else "",
            _ALL if resume is not None and resume.complete else resume.offset if resume is not None else 0,
            pinned=self._order.source.digest is not None,
        )

    async def _ask(self) -> dict[Member, CopyReport | None]:
        """What all others have who can be reached."""
        others = self._members.others
        asked = (self._client.report(member, self._order.task_id) for member in others)
        said = await asyncio.gather(*asked, return_exceptions=True)
        reports: dict[Member, CopyReport | None] = {}
        for member, report in zip(others, said, strict=True):
            if isinstance(report, BaseException):
                if not isinstance(report, errors.ReplicaError):
                    raise report
            else:
                wrong = report is not None and (member.name, report.generation) in self._siblings.wrong
                reports[member] = None if wrong else report
        return reports

    async def _want(self, owner: Member, pause: float) -> bool:
        """Have the owner want the file; whether it is going to have it. Raises what keeps it from having it."""
        try:
            report = await self._wish(owner)
        except errors.ReplicaError:
            return False
        self._lender = owner
        if report is None or report.stage is not Stage.IDLE or report.whole:
            self._idle = 0.0
            return True
        if report.failure is not None:
            kind = _OF_ORIGIN.get(report.failure.reason)
            if kind is not None:
                raise kind(report.failure.message)
            return False  # its own volume, for one
        self._idle += pause
        return self._idle < _IDLE

    async def _wish(self, owner: Member) -> CopyReport | None:
        source = self._order.source
        wish = SourceRequest(source.url, dict(source.headers), source.digest or "", source.attempt)
        return await self._client.want(owner, self._order.task_id, wish)

    @asynccontextmanager
    async def _copy(self, giver: _Giver, resume: Resume | None) -> AsyncIterator[Answer]:
        report = giver.report
        same = resume is not None and resume.generation == report.generation
        lineage = Provenance(
            report.generation,
            report.piece_size,
            report.origin_bytes,
            report.digest,
            giver.end,
            on_wrong=lambda: self._siblings.wrong.add((giver.member.name, report.generation)),
        )
        answer = Answer(report.length, 0, report.etag, report.last_modified, True, _no_chunks())
        if resume is not None and resume.complete and same:
            yield replace(answer, unchanged=True)
            return
        start = resume.offset if resume is not None and same else 0
        renewal = asyncio.create_task(self._renew())
        try:
            async with self._client.content(
                giver.member, self._order.task_id, report.generation, start, giver.end
            ) as body:
                chunks = self._chunks(body, giver, lineage)
                try:
                    yield replace(answer, offset=start, chunks=chunks, provenance=lineage)
                finally:
                    await chunks.aclose()
        finally:
            renewal.cancel()
            await asyncio.gather(renewal, return_exceptions=True)

    async def _chunks(
        self, body: AsyncIterator[bytes], giver: _Giver, lineage: Provenance
    ) -> AsyncGenerator[bytes, None]:
        async for chunk in body:
            yield chunk
        if giver.end is not None:
            return
        report = await self._last_word(giver.member)
        if report is None or not report.whole or report.generation != lineage.generation:
            raise errors.ReplicaError(f"{giver.member.name} does not say that its copy is whole. It is asked again.")
        lineage.digest, lineage.origin_bytes = report.digest, report.origin_bytes

    async def _last_word(self, member: Member) -> CopyReport | None:
        """What a giver says after the last byte; it may be busy, and without it the last piece would be read again."""
        for _ in range(_LAST_WORDS):
            try:
                return await self._client.report(member, self._order.task_id)
            except errors.ReplicaError:
                await asyncio.sleep(1.0)
        return await self._client.report(member, self._order.task_id)

    async def _renew(self) -> None:
        """Keep the owner from letting the file go while it is copied for our sake."""
        while self._lender is not None:
            await asyncio.sleep(_RENEWAL)
            try:
                await self._wish(self._lender)
            except errors.ReplicaError:
                continue


async def _no_chunks() -> AsyncIterator[bytes]:
    return
    yield
