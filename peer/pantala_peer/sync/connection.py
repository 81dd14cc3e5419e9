"""Sends exchanges to the supernode by HTTP: ``POST /api/v1/sync``."""

import asyncio
import os
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import msgspec

from pantala_peer.errors import ExchangeError, ExchangeRefusedError
from pantala_peer.sync.channel import ChannelAnswer, ChannelError, ExchangeChannel, StaleChannelError
from pantala_process.http import bearer, error_detail
from pantala_process.tls.contexts import TLSContexts
from pantala_protocol import __version__
from pantala_protocol.redaction import RedactedURL
from pantala_protocol.rules.fields import decode
from pantala_protocol.sync import SyncAnswer, SyncRequest

_CONNECT = 5.0
"""The most seconds to connect."""

_PASSING = frozenset({401, 403, 408, 425, 429})
"""Statuses below 500 after which another attempt may succeed: the token may be rotated, or the load may decrease."""

_REFUSALS = {
    401: "Check the peer's --token-file and the supernode's --api-server",
    403: "Check the peer's token and --name, and the supernode's --trusted-peer",
}
"""The next step after each status of a supernode that refuses the peer."""

_encode = msgspec.json.Encoder().encode


class SyncConnection:
    """Sends exchanges to one supernode. Use it as an asynchronous context manager.

    Each exchange under way has its own connection, which is then kept. ``tls`` verifies a supernode with ``https``.
    """

    def __init__(self, url: str, *, token_file: Path | None, timeout: float, tls: TLSContexts | None = None) -> None:
        self.shown = RedactedURL(url)
        parts = urlsplit(url)
        self._address = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = tls if parts.scheme == "https" else None
        self._https = parts.scheme == "https"
        self._head = (
            f"POST {parts.path}/api/v1/sync HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\n"
            f"User-Agent: pantala-peer/{__version__}\r\nContent-Type: application/json\r\n"
        )
        self._token_file = token_file
        self._timeout = timeout
        self._open = False
        self._idle: list[ExchangeChannel] = []
        self._sending: set[ExchangeChannel] = set()
        """The connections of the exchanges that :meth:`send` began."""

    async def __aenter__(self) -> Self:
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open = False
        for channel in (*self._idle, *self._sending):
            channel.abort()
        self._idle.clear()
        self._sending.clear()

    def send(self, request: SyncRequest, ended: Callable[[SyncAnswer | ExchangeError | None], None]) -> bool:
        """Send one exchange on a kept connection. False without a usable connection: then use :meth:`sync`.

        ``ended`` is called later, with the answer or an error. ``None``: the supernode had closed the connection.
        """
        while self._idle:
            channel = self._idle[-1]
            if not channel.closed:
                try:
                    message = self._message(request)
                except (OSError, UnicodeError):
                    return False  # sync() reports the reason
                self._sending.add(self._idle.pop())
                channel.send(message, partial(self._on_end, channel, ended), timeout=self._timeout)
                return True
            self._idle.pop()
        return False

    async def sync(self, request: SyncRequest) -> SyncAnswer:
        """Send one exchange and wait for its answer. Raises :class:`ExchangeError`."""
        if not self._open:
            raise ExchangeError("the connection to the supernode is not open")
        try:
            answer = await self._ask(self._message(request))
        except (ChannelError, TimeoutError, OSError, UnicodeError) as error:
            raise self._failure(error) from error
        return self._read(answer)

    def _message(self, request: SyncRequest) -> bytes:
        """The bytes of the HTTP request. Raises :class:`OSError` and :class:`UnicodeError`."""
        body = _encode(request)
        token = "".join(f"{name}: {value}\r\n" for name, value in bearer(self._token_file).items())
        return f"{self._head}{token}Content-Length: {len(body)}\r\n\r\n".encode("ascii") + body

    def _on_end(
        self,
        channel: ExchangeChannel,
        ended: Callable[[SyncAnswer | ExchangeError | None], None],
        end: ChannelAnswer | Exception,
    ) -> None:
        self._sending.discard(channel)
        if isinstance(end, Exception):
            channel.abort()
            ended(None if isinstance(end, StaleChannelError) else self._failure(end))
            return
        self._keep(channel)
        try:
            answer = self._read(end)
        except ExchangeError as error:
            ended(error)
        else:
            ended(answer)

    def _read(self, answered: ChannelAnswer) -> SyncAnswer:
        """Read the answer to an exchange. Raises :class:`ExchangeError`."""
        status, content = answered
        if status != 200:
            raise self._refusal(status, content)
        try:
            answer = decode(content, SyncAnswer)
            bytes.fromhex(answer.key)
        except ValueError as error:
            raise ExchangeError(f"{self.shown} sent an answer that is not valid: {error}") from error
        return answer

    async def _ask(self, request: bytes) -> ChannelAnswer:
        """Send a request on a kept connection, or on a new connection if the supernode has closed the kept one."""
        while self._idle:
            channel = self._idle.pop()
            if not channel.closed:
                try:
                    return await self._ask_on(channel, request)
                except StaleChannelError:
                    break
        async with asyncio.timeout(min(_CONNECT, self._timeout)):
            tls = self._tls.client if self._tls is not None else self._https
            _, channel = await asyncio.get_running_loop().create_connection(ExchangeChannel, *self._address, ssl=tls)
        return await self._ask_on(channel, request)

    async def _ask_on(self, channel: ExchangeChannel, request: bytes) -> ChannelAnswer:
        answer = await channel.ask(request, timeout=self._timeout)
        self._keep(channel)
        return answer

    def _keep(self, channel: ExchangeChannel) -> None:
        if self._open and not channel.closed:
            self._idle.append(channel)
        else:
            channel.abort()

    def _failure(self, error: Exception) -> ExchangeError:
        return ExchangeError(f"{self.shown}: {_plain(error)}")

    def _refusal(self, status: int, content: bytes) -> ExchangeError:
        detail = error_detail(content)
        text = detail.message if detail is not None else "this is not the answer of a supernode. Check --supernode"
        kind = ExchangeRefusedError if 400 <= status < 500 and status not in _PASSING else ExchangeError
        if status in _REFUSALS:
            return kind(f"{self.shown} refuses this peer ({status}): {text.rstrip('.')}. {_REFUSALS[status]}")
        return kind(f"{self.shown} answered {status}: {text}")


def _plain(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.errno and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno) if error.errno > 0 else f"unknown host name ({error.strerror})"
    return str(error) or type(error).__name__
