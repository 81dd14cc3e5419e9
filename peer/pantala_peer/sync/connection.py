"""Sends exchanges to the supernode by HTTP: ``POST /api/v1/sync``."""

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
import msgspec

from pantala_peer.errors import ExchangeError, ExchangeRefusedError
from pantala_process.http import bearer, read_bounded
from pantala_protocol import __version__
from pantala_protocol.redaction import RedactedURL
from pantala_protocol.sync import SyncAnswer, SyncRequest

_MAX_ANSWER = 64 * 1024 * 1024
"""The largest answer in bytes: some 100,000 assignments."""

_PASSING = frozenset({401, 403, 408, 425, 429})
"""Statuses below 500 after which another attempt may succeed: a token is rotated, or the load decreases."""


class SyncConnection:
    """Sends exchanges to one supernode. Use it as an asynchronous context manager."""

    def __init__(self, url: str, *, token_file: Path | None, timeout: float) -> None:
        self.shown = RedactedURL(url)
        self._url = url + "/api/v1/sync"
        self._token_file = token_file
        self._timeout = aiohttp.ClientTimeout(total=timeout, connect=5)
        self._client: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._client = aiohttp.ClientSession(
            timeout=self._timeout,
            connector=aiohttp.TCPConnector(limit=3),  # the held exchange, the one with news, and the last one
            headers={"User-Agent": f"pantala-peer/{__version__}", "Content-Type": "application/json"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.close()

    async def sync(self, request: SyncRequest) -> SyncAnswer:
        """Send one exchange and wait for its answer. Raises :class:`ExchangeError`."""
        if self._client is None:
            raise ExchangeError("the connection to the supernode is not open")
        body = msgspec.json.encode(request)
        try:
            headers = bearer(self._token_file)
            async with self._client.post(self._url, data=body, headers=headers, allow_redirects=False) as response:
                content = await read_bounded(response, _MAX_ANSWER)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ExchangeError(f"{self.shown}: {_plain(error)}") from error
        if response.status != 200:
            raise self._refusal(response.status, content)
        try:
            answer = msgspec.json.decode(content, type=SyncAnswer)
            bytes.fromhex(answer.key)
        except ValueError as error:
            raise ExchangeError(f"{self.shown} sent an answer that is not valid: {error}") from error
        return answer

    def _refusal(self, status: int, content: bytes) -> ExchangeError:
        text = content[:200].decode(errors="replace")
        kind = ExchangeRefusedError if 400 <= status < 500 and status not in _PASSING else ExchangeError
        return kind(f"{self.shown} answered {status}: {text}")


def _plain(error: BaseException) -> str:
    if isinstance(error, asyncio.TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__
