"""Serves pieces over HTTP, in threads beside the event loop.

Answers 206 only with bytes of verified pieces. 403: the ticket is not valid. 404: this process lacks a piece of the
range. 416: the range is not valid. 503: too many pieces are being sent.

One thread, the reception, waits for requests at all connections. ``slots`` threads send pieces. The event loop has no
work for a piece, and a call that moves bytes does not hold Python's lock.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable

import structlog

from pantala_pieces.file import PieceFile
from pantala_pieces.transfer.channel import TICK
from pantala_pieces.transfer.upload.admission import Admission
from pantala_pieces.transfer.upload.fetches import FetchLog, FetchState, PieceFetch
from pantala_pieces.transfer.upload.reception import Reception
from pantala_pieces.transfer.upload.threads import Uploaders
from pantala_process.fair import Claim
from pantala_process.listening import file_limit, listening
from pantala_process.settings import ListenAddress
from pantala_process.tls.contexts import TLSContexts

_log = structlog.get_logger(__name__)

_BACKLOG = 1024
"""How many connections may wait in the kernel until the process accepts them."""


class PieceSender:
    """Serves pieces, and limits their number and rate.

    ``lookup`` finds a task's file. ``keys`` returns the ticket keys of all supernodes. ``clock`` returns seconds since
    the epoch. Threads call these three, and ``pace`` with the size of a piece before it is sent. ``pace`` returns the
    seconds to wait. ``slots`` pieces are sent at once. While more pieces are requested, each tenant gets its share, and
    the clients of a tenant get equal parts. ``claim`` returns the tenant of a task, its share and the task's priority.

    In the event loop, ``on_missing`` is called with a task's ID when its data file is missing although it has verified
    pieces. ``on_fetch`` is called when a fetch begins and when it ends.
    """

    def __init__(
        self,
        lookup: Callable[[str], PieceFile | None],
        *,
        keys: Callable[[], Iterable[bytes]],
        clock: Callable[[], float],
        slots: int,
        pace: Callable[[int], float] | None = None,
        on_missing: Callable[[str], None] | None = None,
        on_fetch: Callable[[PieceFetch, FetchState], None] | None = None,
        claim: Callable[[str], Claim] | None = None,
        tls: TLSContexts | None = None,
    ) -> None:
        self.log = FetchLog(on_fetch, on_missing)
        """Counts the pieces that are being sent now, and the bytes that were sent."""
        self._admission = Admission(lookup, keys=keys, clock=clock)
        self._reception: Reception | None = None
        """The reception while the sender serves."""
        self._slots = slots
        self._pace = pace
        self._claim = claim or (lambda _task_id: Claim())
        self._tls = tls

    @contextlib.asynccontextmanager
    async def serving(
        self, address: ListenAddress, *, share: float, grace: float, flag: str = "--listen"
    ) -> AsyncIterator[int]:
        """Serve pieces while the block runs, and yield the port. Then running uploads get ``grace`` seconds to end.

        Connections may use the fraction ``share`` of the limit of open files. Further connections are closed at once.
        ``flag`` names the address in an error.
        """
        with listening(address, flag) as sockets:
            for each in sockets:
                each.listen(_BACKLOG)
            self.log.open()
            uploaders = Uploaders(self._slots, self.log, self._pace)
            most = int(file_limit() * share)
            reception = self._reception = Reception(
                sockets, self._admission, uploaders, self.log, most=most, claim=self._claim, tls=self._tls
            )
            uploaders.start(reception)
            reception.start()
            try:
                yield int(sockets[0].getsockname()[1])
            finally:
                await asyncio.to_thread(_end, reception, uploaders, grace)


def _end(reception: Reception, uploaders: Uploaders, grace: float) -> None:
    """Let running uploads end within ``grace`` seconds, and then abort all that still run."""
    reception.stop()
    if not reception.join(time.monotonic() + grace):
        uploaders.cut()
        reception.cut()
    uploaders.stop()
    until = time.monotonic() + 4 * TICK
    if uploaders.join(until) and reception.join(until):
        reception.close()
    else:
        _log.warning("a thread that sends pieces does not end, because the disk does not answer")
