"""What one client may take of the process: bytes of unfinished bodies and answers, and time of the event loop.

Without these limits, one node with a valid token could use up the memory of the process, or block all other nodes.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator

import msgspec
from aiohttp import web

from pantala_process.listening import client_address
from pantala_process.tls.contexts import name_of
from pantala_supernode.errors import LimitedError

MAX_EXCHANGE = 16 * 1024 * 1024
"""The most bytes of a peer's exchange: its inventory of some ten thousand files."""

_ROOM = 2 * MAX_EXCHANGE
"""The most bytes of a client's unfinished bodies and large answers. A peer has at most two exchanges at once."""

PART = 64 * 1024
"""The most bytes of an answer that a transport gets at once. The rest counts until the client reads it.

Bodies and answers up to this size do not count. The limit on connections bounds their sum."""

_SHARE, _BURST = 0.25, 2.0
"""The fraction of the event loop's time that one client may take, and the seconds that it may take at once.

An exchange usually takes less than a millisecond. An inventory of ten thousand files takes some tenths of a second."""

_MOST_REMEMBERED = 20_000
"""Above this number of clients, those that are within their share are forgotten."""


def certified(request: web.Request) -> str | None:
    """The name in the client's certificate. ``None``: plain HTTP."""
    return None if request.transport is None else name_of(request.transport.get_extra_info("peercert"))


class ClientLimits:
    """The limits of all clients. On plain HTTP, a client is an address, and its time has no limit.

    With TLS, a client is the name in a certificate. ``clock`` returns monotonic seconds, and ``spent`` the CPU
    seconds of this thread.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, spent: Callable[[], float] = time.thread_time
    ) -> None:
        self._clock = clock
        self._spent = spent
        self._taken: Counter[str] = Counter()
        self._used: dict[str, tuple[float, float]] = {}
        """The seconds that each client has used beyond its share, and when that was computed."""

    def change(self, client: str, before: int, size: int) -> None:
        """Reserve ``size`` bytes instead of ``before``. Raises :class:`LimitedError` if the client has too many."""
        if before <= PART and size <= PART:
            return
        before, size = (each if each > PART else 0 for each in (before, size))
        if size > before and self._taken[client] + size - before > _ROOM:
            raise LimitedError(
                f"the client has more than {_ROOM >> 20} MiB of unfinished requests and unread answers; "
                "read the answers, and send one request at a time"
            )
        self._taken[client] += size - before
        if not self._taken[client]:
            del self._taken[client]

    @contextlib.contextmanager
    def reserved(self, client: str, size: int) -> Iterator[None]:
        """Reserve ``size`` bytes while the block runs. Raises :class:`LimitedError`."""
        self.change(client, 0, size)
        try:
            yield
        finally:
            self.change(client, size, 0)

    async def send(self, request: web.Request, body: object) -> web.StreamResponse:
        """Answer with JSON, in parts.

        Raises :class:`LimitedError` if the client's unfinished requests and unread answers take too many bytes.
        """
        client, answer = certified(request), web.StreamResponse(headers={"Content-Type": "application/json"})
        with self.serving(client):
            encoded = msgspec.json.encode(body)
        answer.content_length = len(encoded)
        with self.reserved(client or client_address(request), len(encoded)):
            with contextlib.suppress(ConnectionError):  # the client has gone
                await answer.prepare(request)
                for start in range(0, len(encoded), PART):
                    await answer.write(encoded[start : start + PART])
                await answer.write_eof()
            return answer

    def wait(self, certified: str | None) -> float:
        """The seconds until the client's next request is served. ``certified``: the name in its certificate, if any."""
        return 0.0 if certified is None else max(self._excess(certified) - _BURST, 0.0) / _SHARE

    async def turn(self, certified: str | None) -> None:
        """Wait until a request of the client may be served."""
        seconds = self.wait(certified)
        while seconds:
            await asyncio.sleep(seconds)
            seconds = self.wait(certified)

    @contextlib.contextmanager
    def serving(self, certified: str | None) -> Iterator[None]:
        """Count the time of the block for a client with this certificate."""
        begun = self._spent()
        try:
            yield
        finally:
            if certified is not None:
                if len(self._used) > _MOST_REMEMBERED:
                    self._used = {name: each for name, each in self._used.items() if self._excess(name)}
                self._used[certified] = self._excess(certified) + self._spent() - begun, self._clock()

    def _excess(self, certified: str) -> float:
        used, at = self._used.get(certified, (0.0, 0.0))
        return max(used - (self._clock() - at) * _SHARE, 0.0)
