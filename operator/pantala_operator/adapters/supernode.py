"""The supernode's API over HTTP."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import aiohttp
import msgspec

from pantala_operator.errors import SupernodeRefusedError, SupernodeUnavailableError
from pantala_protocol.redaction import RedactedURL
from pantala_protocol.registry import RESOLVE, Resolve, Resolved
from pantala_protocol.statement import Changes, Statement, StatementReceipt

_MAX_ANSWER = 256 * 1024 * 1024
_TIMEOUT = aiohttp.ClientTimeout(total=30, connect=5)
_RESOLVE_TIMEOUT = aiohttp.ClientTimeout(total=60, connect=5)
"""A registry may be slow, and may request a token first."""

T = TypeVar("T")


class HTTPSupernodeAPI:
    """A :class:`pantala_operator.ports.SupernodeAPI`."""

    def __init__(self, url: str, token_file: Path | None = None) -> None:
        """The token file is read for each request, because the kubelet rotates the token."""
        self._url = url
        self._token_file = token_file
        self._session: aiohttp.ClientSession | None = None

    async def state(self, statement: Statement) -> StatementReceipt:
        body = msgspec.json.encode(statement)
        return await self._request("PUT", "/api/v1/statement", StatementReceipt, _TIMEOUT, data=body)

    async def changes(self, boot: str, since: int, wait: float) -> Changes:
        query = {"boot": boot, "since": str(since), "wait": f"{wait:g}"}
        timeout = aiohttp.ClientTimeout(total=wait + 10, connect=5)
        return await self._request("GET", "/api/v1/changes", Changes, timeout, params=query)

    async def resolve(self, question: Resolve) -> Resolved:
        return await self._request("POST", RESOLVE, Resolved, _RESOLVE_TIMEOUT, data=msgspec.json.encode(question))

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _request(
        self,
        method: str,
        path: str,
        kind: type[T],
        timeout: aiohttp.ClientTimeout,
        *,
        params: dict[str, str] | None = None,
        data: bytes | None = None,
    ) -> T:
        if self._session is None:
            self._session = aiohttp.ClientSession(auto_decompress=True)
        headers = {"Content-Type": "application/json"} | self._authorization()
        where = RedactedURL(self._url)
        url = self._url + path
        try:
            async with self._session.request(
                method,
                url,
                params=params,
                data=data,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                body = await _bounded(response)
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            # The error's text may contain the URL with its secrets, so only its kind is shown.
            raise SupernodeUnavailableError(f"{where} does not answer ({_describe(error)})") from error
        if response.status >= 500:
            raise SupernodeUnavailableError(f"{where} answered {response.status}: {_error_text(body)}")
        if response.status != 200:
            raise SupernodeRefusedError(f"{where} answered {response.status}: {_error_text(body)}")
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.DecodeError as error:
            raise SupernodeRefusedError(
                f"{where} sent an answer that is not a valid {kind.__name__}: {error}"
            ) from error

    def _authorization(self) -> dict[str, str]:
        if self._token_file is None:
            return {}
        try:
            return {"Authorization": f"Bearer {self._token_file.read_text().strip()}"}
        except OSError as error:
            raise SupernodeUnavailableError(
                f"the token file {self._token_file} cannot be read: {error.strerror}"
            ) from error


class _Error(msgspec.Struct):
    reason: str = ""
    message: str = ""


class _ErrorBody(msgspec.Struct):
    error: _Error


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(1 << 16):
        body += chunk
        if len(body) > _MAX_ANSWER:
            raise SupernodeRefusedError(f"the answer is larger than {_MAX_ANSWER} bytes")
    return bytes(body)


def _error_text(body: bytes) -> str:
    try:
        error = msgspec.json.decode(body, type=_ErrorBody).error
    except msgspec.DecodeError:
        return body[:200].decode(errors="replace") or "no error text"
    return f"{error.reason}: {error.message}"[:500]


def _describe(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "unknown host name"
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        return os.strerror(number) if number else "connection failed"
    return type(error).__name__
