"""What one supernode says to another, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import aiohttp
import msgspec
import structlog
from msgspec import Meta

from pantala_process.http import bearer
from pantala_protocol.membership import Member
from pantala_protocol.task_id import TaskID
from pantala_supernode.errors import ReplicaError
from pantala_supernode.replicas.decision import CopyReport

_log = structlog.get_logger(__name__)

_WORD = aiohttp.ClientTimeout(total=2.0)
"""A supernode that lives answers at once, and nothing begins before all others were asked."""
_BODY = aiohttp.ClientTimeout(total=None, connect=5.0, sock_read=45.0)
"""Longer than an origin may be silent: that one failed, its reader tells by ending the body."""
_SILENCE = 2.0
"""Seconds for which a supernode that could not be reached is not asked again: many files wait for its word."""
_MAX_WORD = 4 * 1024 * 1024
_LINES = 32
"""Questions under way at once; more would wait for each other, and be taken for unanswered."""


class SourceRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the owner of a task is to fetch for another supernode."""

    url: Annotated[str, Meta(pattern="^[hH][tT][tT][pP][sS]?://[!-~]+$")]
    headers: dict[str, str] = {}
    """Sent to the origin, and to no other host. Kept in memory only."""
    digest: str = ""
    """That the whole must have; empty: whatever the origin sends."""
    attempt: str = ""
    """A new value asks for a new try after a failure."""


class _Silence(NamedTuple):
    error: str
    until: float
    sure: bool
    """It is not there, or was asked before: nothing is to be expected of it."""


class ReplicaClient:
    """Asks other supernodes. ``token``: the file with the token to show, read each time since the kubelet rotates it.

    ``clock`` tells monotonic seconds. Whatever keeps one from answering is a
    :class:`pantala_supernode.errors.ReplicaError`.
    """

    def __init__(self, session: aiohttp.ClientSession, token: Path | None, *, clock: Callable[[], float]) -> None:
        self._session = session
        self._token = token
        self._clock = clock
        self._lines = asyncio.Semaphore(_LINES)
        self._silent: dict[str, _Silence] = {}

    def in_doubt(self, member: Member) -> bool:
        """Whether one that did not answer in time may only be busy: it is to be asked again."""
        silence = self._silent.get(member.url)
        return silence is not None and not silence.sure

    async def report(self, member: Member, task_id: TaskID) -> CopyReport | None:
        """What it has of a file; ``None``: nobody wants that there."""
        return await self._ask(member, "GET", task_id)

    async def want(self, member: Member, task_id: TaskID, wish: SourceRequest) -> CopyReport | None:
        """Have it fetch a file, and go on with that for a minute."""
        return await self._ask(member, "PUT", task_id, msgspec.json.encode(wish))

    @asynccontextmanager
    async def content(
        self, member: Member, task_id: TaskID, generation: str, start: int, end: int | None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes from ``start`` on, as they come; with ``end`` those that are there now."""
        query: dict[str, str | int] = {"generation": generation, "start": start}
        query |= {} if end is None else {"end": end}
        try:
            answer = await self._send(member, "GET", f"{task_id}/content", timeout=_BODY, params=query)
        except (aiohttp.ClientError, OSError) as error:
            raise ReplicaError(f"{member.name} cannot be reached: {type(error).__name__}") from error
        async with answer:
            if answer.status != 200:
                raise ReplicaError(f"{member.name} answered {answer.status} when its copy was to be read")
            yield _chunks(answer, member)

    async def _ask(self, member: Member, method: str, task_id: TaskID, body: bytes | None = None) -> CopyReport | None:
        async with self._lines:
            silence = self._silent.get(member.url)
            if silence is not None and self._clock() < silence.until:
                raise ReplicaError(f"{member.name} did not answer a moment ago")
            try:
                async with await self._send(member, method, task_id, timeout=_WORD, data=body) as answer:
                    report = await _report(answer)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                self._fall_silent(member, error)
                raise ReplicaError(f"{member.name} did not answer: {type(error).__name__}") from error
        self._silent.pop(member.url, None)
        return report

    async def _send(
        self, member: Member, method: str, path: str, *, timeout: aiohttp.ClientTimeout, **more: Any
    ) -> aiohttp.ClientResponse:
        headers = bearer(self._token)
        url = f"{member.url.rstrip('/')}/api/v1/copies/{path}"
        return await self._session.request(method, url, headers=headers, timeout=timeout, allow_redirects=False, **more)

    def _fall_silent(self, member: Member, error: Exception) -> None:
        """Leave a supernode alone for a moment; that it does not answer, and in which way, is logged once."""
        before, said, now = self._silent.get(member.url), f"{type(error).__name__} {error}".strip(), self._clock()
        asked_again = before is not None and (before.sure or now >= before.until)  # not: two were waiting at once
        sure = asked_again or not isinstance(error, TimeoutError)
        self._silent[member.url] = _Silence(said, now + _SILENCE, sure)
        if before is None or before.error != said:
            _log.warning("another supernode cannot be asked", member=member.name, error=said)


async def _report(answer: aiohttp.ClientResponse) -> CopyReport | None:
    if answer.status == 404:
        return None
    if answer.status != 200 or not 0 < (answer.content_length or 0) <= _MAX_WORD:
        _log.warning("another supernode refused", path=answer.url.path, status=answer.status)
        raise ReplicaError(f"another supernode answered {answer.status}")
    return msgspec.json.decode(await answer.read(), type=CopyReport)


async def _chunks(answer: aiohttp.ClientResponse, member: Member) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.content.iter_any():
            yield chunk
    except (aiohttp.ClientError, OSError) as error:
        raise ReplicaError(f"{member.name} ended in the middle of its copy: {type(error).__name__}") from error
