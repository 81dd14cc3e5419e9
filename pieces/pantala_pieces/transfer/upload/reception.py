"""The thread that reads requests for pieces, and refuses requests that get no piece."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from pantala_pieces.transfer.channel import ChannelClosedError
from pantala_pieces.transfer.upload.admission import Admission
from pantala_pieces.transfer.upload.connection import InboundConnection
from pantala_pieces.transfer.upload.fetches import FetchLog
from pantala_pieces.transfer.upload.heads import PieceRefusedError, busy
from pantala_pieces.transfer.upload.listeners import Listeners
from pantala_pieces.transfer.upload.parking import Parking
from pantala_pieces.transfer.upload.queue import Upload
from pantala_pieces.transfer.upload.threads import Uploaders
from pantala_process.entrance.connections import FIRST_REQUEST, ConnectionTable, FullError
from pantala_process.fair import Claim
from pantala_process.tls.contexts import TLSContexts

_log = structlog.get_logger(__name__)

_SLOT_TIMEOUT = 2.0
"""The most seconds that a request waits for a slot. The client would take a longer wait for a stall."""

_HEAD_TIMEOUT = 5.0
"""The most seconds from the first byte of a head to its last byte."""

_IDLE_TIMEOUT = 75.0
"""Seconds that a connection may be idle between two requests."""

_END_TIMEOUT = 2.0
"""Seconds that a client has to close its side after the last answer."""

_LOOK = 1.0
"""Seconds between two checks of all connections' deadlines, and before another attempt to accept connections."""

_END_LOOK = 0.05
"""The most seconds between two turns while this process ends and waits for the last answer."""

_AT_ONCE = 64
"""Events that are handled before other work gets its turn."""

_READ = select.EPOLLIN | select.EPOLLONESHOT
_WRITE = select.EPOLLOUT | select.EPOLLONESHOT


class Reception:
    """Owns all connections, at most ``most``. ``claim`` is as in :class:`PieceSender`.

    A connection with a complete request is lent to an uploader, which gives it back after the answer. Meanwhile, the
    reception gets no events of the connection, so only one thread at a time uses it.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        admission: Admission,
        uploaders: Uploaders,
        log: FetchLog,
        *,
        most: int,
        claim: Callable[[str], Claim],
        tls: TLSContexts | None,
    ) -> None:
        self._admission = admission
        self._uploaders = uploaders
        self._log = log
        self._table: ConnectionTable[int] = ConnectionTable(most)
        self._claim = claim
        self._tls = tls
        self._epoll = select.epoll()
        self._listeners = Listeners(listeners, self._epoll, self._welcome)
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._connections: dict[int, InboundConnection] = {}
        self._returned: deque[InboundConnection] = deque()
        """Connections that uploaders gave back, and that have bytes of their next request."""
        self._parking = Parking()
        self._lock = threading.Lock()
        """Held while connections are counted, because uploaders also close connections."""
        self._stopping = self._broken = False
        self._looked_at = float("-inf")
        self._thread = threading.Thread(target=self._run, name="piece-reception", daemon=True)

    def start(self) -> None:
        self._epoll.register(self._wakeup, select.EPOLLIN)
        self._listeners.listen(True)
        self._thread.start()

    def stop(self) -> None:
        """Accept no further connection or request. The thread ends once all answers are sent, or at :meth:`cut`."""
        self._stopping = True
        self._wake()

    def cut(self) -> None:
        """Break all connections, also those with running uploads, and end the thread."""
        self._broken = True
        for connection in list(self._connections.values()):
            connection.abort()

    def join(self, until: float) -> bool:
        """Wait for the thread until a time in monotonic seconds. Returns whether it has ended."""
        self._thread.join(max(until - time.monotonic(), 0.0))
        return not self._thread.is_alive()

    def close(self) -> None:
        """Close the remaining connections, after all threads have ended."""
        for connection in list(self._connections.values()):
            self.abandon(connection)
        self._epoll.close()
        os.close(self._wakeup)

    # Called by uploaders

    def give_back(self, connection: InboundConnection, *, keep: bool) -> None:
        """Wait for the next request of a connection."""
        connection.take_back()
        now = time.monotonic()
        if keep and not self._stopping:
            connection.deadline = now + _IDLE_TIMEOUT
            if connection.readable:
                connection.deadline = now + _HEAD_TIMEOUT
                self._returned.append(connection)
                self._wake()
            else:
                self._arm(connection)
        elif connection.unread:
            connection.finish()
            connection.deadline = now + _END_TIMEOUT
            self._arm(connection)
        else:
            self.abandon(connection)

    def refuse(self, connection: InboundConnection, refusal: PieceRefusedError, *, keep: bool) -> None:
        """Answer with an error, and take the connection back."""
        connection.take_back()
        keep = keep and not refusal.close and not self._stopping
        try:
            connection.answer(refusal.answer(close=not keep))
        except ChannelClosedError:
            self.abandon(connection)
        else:
            self.give_back(connection, keep=keep)

    def park(self, upload: Upload) -> None:
        """Continue an answer when its client has read the bytes sent so far. Meanwhile, the answer has no slot."""
        connection = upload.connection
        connection.take_back()
        with self._lock:
            if self._connections.get(connection.number) is not connection:
                self._log.give_up(upload.answer.fetch)
                return
            self._parking.add(upload)  # first: without it, the thread may close a connection with a deadline
            connection.deadline = upload.until
        self._arm(connection, _WRITE)

    def abandon(self, connection: InboundConnection) -> None:
        parked = None
        with self._lock:
            if self._connections.get(connection.number) is connection:
                del self._connections[connection.number]  # first: a new connection may get its number
                parked = self._parking.take(connection.number)
                self._table.remove(connection.number)
        connection.close()
        if parked is not None:
            self._log.give_up(parked.answer.fetch)

    # The thread

    def _run(self) -> None:
        while not (self._stopping and not self._connections) and not self._broken:
            try:
                self._turn()
            except Exception:
                _log.exception("the reception of requests for pieces failed because of a bug; it continues")
                time.sleep(_LOOK)

    def _turn(self) -> None:
        for number, _ in self._epoll.poll(self._patience(), _AT_ONCE):
            if number in self._listeners:
                self._listeners.accept(number)
            elif number == self._wakeup:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._wakeup)
            elif (connection := self._connections.get(number)) is not None:
                self._attend(connection)
        if self._returned:
            self._attend_returned()
        now = time.monotonic()
        self._refuse_overdue(now)
        if self._stopping:
            self._close_idle()
        if now - self._looked_at >= _LOOK:
            self._looked_at = now
            self._look(now)

    def _attend_returned(self) -> None:
        for _ in range(min(len(self._returned), _AT_ONCE)):
            connection = self._returned.popleft()
            if self._connections.get(connection.number) is connection:  # otherwise it was closed meanwhile
                self._attend(connection)

    def _patience(self) -> float:
        if self._returned:
            return 0.0
        if self._stopping:
            return _END_LOOK
        oldest = self._uploaders.queue.oldest
        if oldest is not None:
            left = oldest + _SLOT_TIMEOUT - time.monotonic()
            return _LOOK if left > _LOOK else max(left, 0.0)
        return _LOOK if self._connections or not self._listeners.accepting else -1.0

    def _attend(self, connection: InboundConnection) -> None:
        """Handle one event of a connection: at most one request."""
        head = None
        try:
            if connection.ending:
                connection.drain()
                self._arm(connection)
                return
            if connection.number in self._parking:
                self._resume(connection)
                return
            begun = connection.begun
            if begun:
                head = connection.next_head()
            if head is None and connection.receive():
                head = connection.next_head()
            if head is None:
                if connection.begun and not begun:
                    connection.deadline = min(connection.deadline, time.monotonic() + _HEAD_TIMEOUT)
                self._arm(connection)
                return
            answer = self._admission.admit(head, connection.client)
            claim = self._claim(answer.fetch.task_id)._replace(client=connection.client or connection.address)
        except PieceRefusedError as refusal:
            self.refuse(connection, refusal, keep=head is not None and head.keep)
        except ChannelClosedError:
            self.abandon(connection)
        except Exception:
            _log.exception("a request for a piece failed because of a bug; its connection is closed; please report it")
            self.abandon(connection)
        else:
            self._log.wait(answer.fetch)
            connection.deadline = float("inf")
            with self._lock:
                self._table.served(connection.number)
            self._uploaders.queue.put(Upload(connection, answer, claim, time.monotonic()))

    def _resume(self, connection: InboundConnection) -> None:
        """Let a parked upload wait for a slot again."""
        upload = None if self._broken else self._parking.take(connection.number)
        if upload is None:  # the uploaders may have ended
            self.abandon(connection)
            return
        connection.deadline = float("inf")
        self._uploaders.queue.put(upload)

    def _arm(self, connection: InboundConnection, events: int = _READ) -> None:
        """Ask the kernel for the next event of a connection."""
        with contextlib.suppress(OSError, ValueError):  # it was closed because this process ends
            self._epoll.modify(connection.number, events)

    def _refuse_overdue(self, now: float) -> None:
        """Refuse the requests that have waited too long for a slot."""
        for upload in self._uploaders.queue.overdue(now - _SLOT_TIMEOUT):
            self._log.give_up(upload.answer.fetch)
            self.refuse(upload.connection, busy(), keep=upload.answer.keep)

    def _look(self, now: float) -> None:
        """Close the connections whose deadline has passed. Accept connections again after a pause."""
        for connection in list(self._connections.values()):
            if connection.deadline <= now:
                connection.forget_unsent()
                self.abandon(connection)
        if not self._stopping:
            self._listeners.listen(True)

    def _close_idle(self) -> None:
        """Close the connections without a complete request, because no further request is answered."""
        self._listeners.close()
        for connection in list(self._connections.values()):
            if connection.deadline < float("inf") and not connection.ending and connection.number not in self._parking:
                self.abandon(connection)

    def _welcome(self, accepted: socket.socket, address: str) -> None:
        """Take a new connection, or close it if there are too many."""
        try:
            with self._lock:
                former = self._table.dispensable(address)
            if former is not None:
                self.abandon(self._connections[former])
            connection = InboundConnection(accepted, None if self._tls is None else self._tls.server, address)
        except (FullError, OSError) as error:
            accepted.close()
            if isinstance(error, FullError):
                self._listeners.warn(
                    "too many connections for pieces; raise the limit of open files", most=self._table.most
                )
            return
        connection.deadline = time.monotonic() + FIRST_REQUEST
        with self._lock:
            self._table.add(connection.number, address)
        self._connections[connection.number] = connection
        self._epoll.register(connection.number, _READ)

    def _wake(self) -> None:
        os.eventfd_write(self._wakeup, 1)
