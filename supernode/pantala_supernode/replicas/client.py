"""Calls other replicas over HTTP."""

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
from pantala_process.tls.contexts import TLSContexts
from pantala_protocol.rules.fields import decode
from pantala_protocol.statement import Member
from pantala_protocol.task_id import TaskID
from pantala_supernode.errors import ReplicaError
from pantala_supernode.replicas.decision import CopyReport

_log = structlog.get_logger(__name__)

_REPORT_TIMEOUT = aiohttp.ClientTimeout(total=2.0)
"""The time limit for a report. It is short, because each read of an origin waits for the answers of all replicas."""
_BODY_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=5.0, sock_read=45.0)
"""The time limits for a body. ``sock_read`` is long, so that a replica notices first that its origin is silent."""
_SILENCE = 2.0
"""Seconds for which a replica that did not answer is not asked again, because many files wait for its answer."""
_TIMEOUTS = 3
"""A replica counts as down after this many timeouts in a row. A replica that is only busy answers before."""
_MAX_REPORT = 4 * 1024 * 1024
_PARALLEL = 32
"""The most requests at the same time. More requests would slow each other down and time out."""


class SourceRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of ``PUT /api/v1/copies/<task ID>``: the file that the owner of the task must fetch for a replica."""

    url: Annotated[str, Meta(pattern="^[hH][tT][tT][pP][sS]?://[!-~]+$")]
    headers: dict[str, str] = {}
    """Headers for the origin. They are sent only to the origin's host, and kept only in memory."""
    digest: str = ""
    """The expected digest of the whole file. Empty: any content is accepted."""
    attempt: str = ""
    """If it differs from the attempt of the last request, the owner tries again after a failure."""
    pod_identity: bool = False
    """True if a blob of an image is read with the supernode's cloud identity."""
    tenants: tuple[str, ...] = ()
    """The namespaces that want the file."""
    origin: str = ""
    """For a blob of an image: its repository, as ``registry/repository``."""


class _Silence(NamedTuple):
    error: str
    until: float
    timeouts: int
    """How many requests in a row have timed out. A replica that refused the connection counts as :data:`_TIMEOUTS`."""
    leaving: bool
    """True if the replica was already leaving when it did not answer."""


class ReplicaClient:
    """Calls other replicas. Every failure is a :class:`pantala_supernode.errors.ReplicaError`.

    ``token``: the file with the token to send. It is read each time, because the kubelet replaces it. ``clock`` returns
    monotonic seconds.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        token: Path | None,
        *,
        clock: Callable[[], float],
        tls: TLSContexts | None = None,
    ) -> None:
        self._session = session
        self._tls = tls
        self._token = token
        self._clock = clock
        self._turn = asyncio.Semaphore(_PARALLEL)
        self._silent: dict[str, _Silence] = {}

    def in_doubt(self, replica: Member) -> bool:
        """True if a replica timed out, but may only be busy. Before reading an origin, the caller must ask it again."""
        silence = self._silent.get(replica.url)
        return silence is not None and silence.timeouts < _TIMEOUTS

    async def report(self, replica: Member, task_id: TaskID) -> CopyReport | None:
        """What a replica has of a file. ``None``: the replica does not know the task."""
        return await self._ask(replica, "GET", task_id)

    async def want(self, replica: Member, task_id: TaskID, request: SourceRequest) -> CopyReport | None:
        """Let a replica lease the task for a minute, and so fetch the file. Returns what the replica has of it."""
        return await self._ask(replica, "PUT", task_id, msgspec.json.encode(request))

    @asynccontextmanager
    async def content(
        self, replica: Member, task_id: TaskID, generation: str, start: int, end: int | None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of a replica's copy from ``start`` to ``end``. Without ``end``: all bytes, as they arrive there."""
        query: dict[str, str | int] = {"generation": generation, "start": start}
        query |= {} if end is None else {"end": end}
        try:
            answer = await self._send(replica, "GET", f"{task_id}/content", timeout=_BODY_TIMEOUT, params=query)
        except (aiohttp.ClientError, OSError) as error:
            raise ReplicaError.with_action(
                f"Replica {replica.name} cannot be reached: {type(error).__name__}"
            ) from error
        async with answer:
            if answer.status != 200:
                raise ReplicaError.with_action(
                    f"Replica {replica.name} answered {answer.status} to a request for its copy"
                )
            yield _chunks(answer, replica)

    async def _ask(self, replica: Member, method: str, task_id: TaskID, body: bytes | None = None) -> CopyReport | None:
        async with self._turn:
            if self._is_silent(replica):
                raise ReplicaError.with_action(f"Replica {replica.name} did not answer a moment ago")
            try:
                async with await self._send(replica, method, task_id, timeout=_REPORT_TIMEOUT, data=body) as answer:
                    report = await _report(answer)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                self._note_silence(replica, error)
                raise ReplicaError.with_action(
                    f"Replica {replica.name} did not answer: {type(error).__name__}"
                ) from error
        self._silent.pop(replica.url, None)
        return report

    def _is_silent(self, replica: Member) -> bool:
        """True if a replica must not be asked now. A replica that begins to leave is asked once more."""
        silence = self._silent.get(replica.url)
        if silence is None or self._clock() >= silence.until:
            return False
        return silence.leaving or not replica.leaving

    async def _send(
        self, replica: Member, method: str, path: str, *, timeout: aiohttp.ClientTimeout, **more: Any
    ) -> aiohttp.ClientResponse:
        headers = bearer(self._token)
        url = f"{replica.url.rstrip('/')}/api/v1/copies/{path}"
        more["ssl"] = True if self._tls is None else self._tls.client
        return await self._session.request(method, url, headers=headers, timeout=timeout, allow_redirects=False, **more)

    def _note_silence(self, replica: Member, error: Exception) -> None:
        """Record that a replica did not answer, so that it is not asked for a moment. Log each kind of failure once."""
        before, text, now = self._silent.get(replica.url), f"{type(error).__name__} {error}".strip(), self._clock()
        timeouts = before.timeouts if before is not None else 0
        if not isinstance(error, TimeoutError):
            timeouts = _TIMEOUTS
        elif before is None or now >= before.until:  # requests at the same time count once
            timeouts += 1
        self._silent[replica.url] = _Silence(text, now + _SILENCE, timeouts, replica.leaving)
        if before is None or before.error != text:
            _log.warning("a replica does not answer", replica=replica.name, error=text)


async def _report(answer: aiohttp.ClientResponse) -> CopyReport | None:
    if answer.status == 404:
        return None
    if answer.status != 200 or not 0 < (answer.content_length or 0) <= _MAX_REPORT:
        _log.warning("a replica refused a request", url=str(answer.url), status=answer.status)
        raise ReplicaError.with_action(f"The replica at {answer.url.host} answered {answer.status}")
    return decode(await answer.read(), CopyReport)


async def _chunks(answer: aiohttp.ClientResponse, replica: Member) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.content.iter_any():
            yield chunk
    except (aiohttp.ClientError, OSError) as error:
        raise ReplicaError.with_action(
            f"Replica {replica.name} stopped sending its copy: {type(error).__name__}"
        ) from error
