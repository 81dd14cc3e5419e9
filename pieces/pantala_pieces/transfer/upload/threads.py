"""The threads that send pieces."""

from __future__ import annotations

import errno
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from queue import SimpleQueue
from typing import Protocol

import structlog

from pantala_pieces.file import PieceFile
from pantala_pieces.transfer.channel import Channel, ChannelClosedError
from pantala_pieces.transfer.upload.admission import PieceAnswer
from pantala_pieces.transfer.upload.connection import InboundConnection
from pantala_pieces.transfer.upload.fetches import FetchLog
from pantala_pieces.transfer.upload.heads import PieceRefusedError

_log = structlog.get_logger(__name__)

_MIN_RATE = 32 * 1024
"""Bytes per second. A slower reader is cut off, so that a few stuck readers cannot hold every slot."""

_PATIENCE = 30.0
"""Seconds that a reader gets for any piece, in addition to the time of the piece at :data:`_MIN_RATE`."""

_AT_ONCE = 64 * 1024
"""A piece of at most this many bytes is sent together with its head: one call, and often one packet."""

_SOON = 0.05
"""After a wait of this many seconds, the thread checks that the client is still there."""

_MOST_OPEN = 128
"""Files that are kept open."""


class Upload:
    """One answer that waits for a slot, or is being sent."""

    def __init__(self, connection: InboundConnection, answer: PieceAnswer, queued_at: float) -> None:
        self.connection = connection
        self.answer = answer
        self.queued_at = queued_at
        self.claimed = False
        """True once a thread sends or refuses it."""
        self._unclaimed = threading.Lock()

    def claim(self) -> bool:
        """Take the upload, to send or to refuse it. One of the threads that try this gets True."""
        first = self._unclaimed.acquire(blocking=False)
        self.claimed = True
        return first


class Returns(Protocol):
    """Takes connections back after their answers."""

    def give_back(self, connection: InboundConnection, *, keep: bool) -> None: ...

    def refuse(self, connection: InboundConnection, refusal: PieceRefusedError, *, keep: bool) -> None:
        """Answer with an error, and take the connection back."""

    def abandon(self, connection: InboundConnection) -> None:
        """Close a connection that broke."""


class Uploaders:
    """``slots`` threads that send pieces, in the order of :meth:`put`.

    ``pace`` is called with the size of a piece before it is sent, and returns the seconds to wait.
    """

    def __init__(self, slots: int, log: FetchLog, pace: Callable[[int], float] | None) -> None:
        self._slots = slots
        self._log = log
        self._pace = pace
        self._queue: SimpleQueue[Upload | None] = SimpleQueue()
        self._files = _OpenFiles()
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, returns: Returns) -> None:
        for number in range(self._slots):
            thread = threading.Thread(target=self._work, args=(returns,), name=f"piece-upload-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def put(self, upload: Upload) -> None:
        self._queue.put(upload)

    def stop(self) -> None:
        """Let each thread end once no upload waits."""
        for _ in self._threads:
            self._queue.put(None)

    def join(self, until: float) -> bool:
        """Wait for the threads until a time in monotonic seconds. Returns whether all have ended."""
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0.0))
        return not any(thread.is_alive() for thread in self._threads)

    def cut(self) -> None:
        """Send no further byte. Running calls end when their channels are aborted."""
        self._ended.set()

    def _work(self, returns: Returns) -> None:
        while (upload := self._queue.get()) is not None:
            if not upload.claim():
                continue
            try:
                self._serve(upload, returns)
            except Exception:
                text = "a piece was not sent because of a bug; its connection is closed; please report it"
                _log.exception(text, task=upload.answer.fetch.task_id)
                returns.abandon(upload.connection)

    def _serve(self, upload: Upload, returns: Returns) -> None:
        connection, answer = upload.connection, upload.answer
        stream = _Stream(connection.lend(), self._ended)
        self._log.begin()
        whole = False
        try:
            self._wait(upload, stream)
            self._send(answer, stream)
            whole = True
        except ChannelClosedError:
            returns.abandon(connection)
        except (OSError, EOFError):
            self._log.missing(answer.fetch.task_id)
            if stream.begun:
                returns.abandon(connection)
            else:
                returns.refuse(connection, _unreadable(), keep=answer.keep)
        finally:
            self._log.end(answer.fetch, answer.counted if whole else 0)
        if whole:
            returns.give_back(connection, keep=answer.keep)

    def _wait(self, upload: Upload, stream: _Stream) -> None:
        """Wait for the rate. Raises :class:`ChannelClosedError` if the client has gone meanwhile."""
        size = upload.answer.size
        if self._pace is not None:
            self._ended.wait(self._pace(size))
        now = time.monotonic()
        stream.until = now + _PATIENCE + size / _MIN_RATE
        if now - upload.queued_at > _SOON and upload.connection.gone:
            raise ChannelClosedError("the client closed the connection before the answer")

    def _send(self, answer: PieceAnswer, stream: _Stream) -> None:
        self._files.use(answer.file)
        with answer.file.opened() as fd:
            if not os.fstat(fd).st_nlink:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(answer.file.path))
            if answer.size <= _AT_ONCE:
                content = os.pread(fd, answer.size, answer.offset)
                if len(content) < answer.size:
                    raise EOFError("the file is shorter than the piece")
                stream.send(answer.before + content + answer.after)
                return
            stream.send(answer.before, more=True)
            stream.send_file(fd, answer.offset, answer.size)
            if answer.after:
                stream.send(answer.after)


class _Stream:
    """Sends all bytes of an answer. Raises :class:`ChannelClosedError` if the connection ends or is too slow."""

    def __init__(self, channel: Channel, ended: threading.Event) -> None:
        self.begun = False
        """True once a byte was sent."""
        self.until = 0.0
        """When the client must have the answer, in monotonic seconds."""
        self._channel = channel
        self._ended = ended

    def send(self, data: bytes, *, more: bool = False) -> None:
        sent = self._channel.send(data, more=more)
        while sent < len(data):
            self._note(sent)
            data = data[sent:]
            sent = self._channel.send(data, more=more)
        self.begun = True

    def send_file(self, fd: int, offset: int, size: int) -> None:
        end = offset + size
        while offset < end:
            sent = self._channel.send_file(fd, offset, end - offset)
            offset += sent
            if offset < end:
                self._note(sent)
        self.begun = True

    def _note(self, sent: int) -> None:
        self.begun = self.begun or sent > 0
        if self._ended.is_set() or time.monotonic() > self.until:
            raise ChannelClosedError("the client reads too slowly, or this process ends")


class _OpenFiles:
    """Closes the files that were not used for the longest time, so that few descriptors are open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._used: OrderedDict[int, weakref.ref[PieceFile]] = OrderedDict()
        self._newest: weakref.ref[PieceFile] | None = None

    def use(self, file: PieceFile) -> None:
        newest = self._newest
        if newest is not None and newest() is file:
            return
        with self._lock:
            self._newest = self._used[id(file)] = weakref.ref(file)
            self._used.move_to_end(id(file))
            oldest = self._used.popitem(last=False)[1]() if len(self._used) > _MOST_OPEN else None
        if oldest is not None:
            oldest.close()


def _unreadable() -> PieceRefusedError:
    return PieceRefusedError(HTTPStatus.NOT_FOUND, "NotHeld", "This provider cannot read the piece.")
