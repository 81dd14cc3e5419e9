"""The supernode's API over HTTP."""

from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec

from pantala_operator.errors import SupernodeOlderError, SupernodeRefusedError, SupernodeUnavailableError
from pantala_process.http import TooLargeError, bearer, connection_problem, error_detail, read_bounded
from pantala_process.tls.contexts import TLSContexts
from pantala_protocol.console.progress import Progress
from pantala_protocol.redaction import RedactedURL
from pantala_protocol.registry import RESOLVE, Resolve, Resolved
from pantala_protocol.rules.fields import decode
from pantala_protocol.statement import Changes, Statement, StatementReceipt

_MAX_ANSWER = 256 * 1024 * 1024
_TIMEOUT = aiohttp.ClientTimeout(total=30, connect=5)
_PROGRESS_TIMEOUT = aiohttp.ClientTimeout(total=10, connect=5)
_RESOLVE_TIMEOUT = aiohttp.ClientTimeout(total=60, connect=5)
"""A long timeout: a registry may be slow, and may require a token first."""

T = TypeVar("T")


class HTTPSupernodeAPI:
    """A :class:`pantala_operator.ports.SupernodeAPI`."""

    def __init__(self, url: str, token_file: Path | None = None, tls: TLSContexts | None = None) -> None:
        """The token file is read for each request, because the kubelet rotates the token."""
        self._url = url
        self._token_file = token_file
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def state(self, statement: Statement) -> StatementReceipt:
        body = msgspec.json.encode(statement)
        return await self._request("PUT", "/api/v1/statement", StatementReceipt, _TIMEOUT, data=body)

    async def changes(self, boot: str, since: int, wait: float) -> Changes:
        query = {"boot": boot, "since": str(since), "wait": f"{wait:g}", "numbers": "true"}
        timeout = aiohttp.ClientTimeout(total=wait + 10, connect=5)
        return await self._request("GET", "/api/v1/changes", Changes, timeout, params=query)

    async def progress(self) -> Progress | None:
        try:
            return await self._request("GET", "/api/v1/progress", Progress, _PROGRESS_TIMEOUT)
        except SupernodeOlderError:
            return None

    async def resolve(self, question: Resolve) -> Resolved:
        return await self._request("POST", RESOLVE, Resolved, _RESOLVE_TIMEOUT, data=msgspec.json.encode(question))

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _request(
        self, method: str, path: str, into: type[T], timeout: aiohttp.ClientTimeout, **content: Any
    ) -> T:
        where = RedactedURL(self._url)
        try:
            headers = {"Content-Type": "application/json"} | bearer(self._token_file)
        except OSError as error:
            raise SupernodeUnavailableError(str(error)) from error
        if self._session is None:
            self._session = aiohttp.ClientSession()
        tls = True if self._tls is None else self._tls.client
        try:
            async with self._session.request(
                method, self._url + path, headers=headers, timeout=timeout, allow_redirects=False, ssl=tls, **content
            ) as response:
                body = await read_bounded(response, _MAX_ANSWER)
        except TooLargeError as error:
            raise SupernodeRefusedError(f"{where}: {error}") from error
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            # The error's text may contain the URL with its secrets, so only its kind is shown.
            raise SupernodeUnavailableError(f"{where} does not answer ({connection_problem(error)})") from error
        if response.status != 200:
            kind = SupernodeUnavailableError if response.status >= 500 else SupernodeRefusedError
            kind = SupernodeOlderError if response.status == 404 else kind
            raise kind(f"{where} answered {response.status}: {_error_text(body)}")
        try:
            return decode(body, into)
        except ValueError as error:
            raise SupernodeRefusedError(
                f"{where} sent an answer that is not a valid {into.__name__}: {error}"
            ) from error


def _error_text(body: bytes) -> str:
    detail = error_detail(body)
    if detail is None:
        return body[:200].decode(errors="replace") or "no error text"
    return f"{detail.reason}: {detail.message}"[:500]
