"""Sends one answer in one or more turns. Between two turns, the slot of a slow client serves other clients."""

from __future__ import annotations

import errno
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable

from pantala_pieces.file import PieceFile
from pantala_pieces.transfer.channel import Channel, ChannelClosedError
from pantala_pieces.transfer.upload.queue import Upload

_MIN_RATE = 32 * 1024
"""Bytes per second. The connection of a slower reader is closed, so that it does not hold a connection and buffers."""

_PATIENCE = 30.0
"""Seconds that a reader gets for any piece, in addition to the time of the piece at :data:`_MIN_RATE`."""

_AT_ONCE = 64 * 1024
"""A piece of at most this many bytes is sent together with its head, in one call."""

_MOST_OPEN = 128
"""The most files that are kept open."""


class ParkedError(Exception):
    """The client has not read the bytes sent so far, and other uploads wait for a slot."""


class AnswerStream:
    """Sends the remaining bytes of an answer. ``crowded`` returns True if other uploads wait for a slot."""

    def __init__(self, upload: Upload, channel: Channel, ended: threading.Event, crowded: Callable[[], bool]) -> None:
        self._upload = upload
        self._channel = channel
        self._ended = ended
        self._crowded = crowded
        if not upload.begun:
            upload.begun = True
            upload.until = time.monotonic() + _PATIENCE + upload.answer.size / _MIN_RATE

    def send(self) -> None:
        """Send the remaining bytes. Raises :class:`ParkedError` if another upload needs the slot before the end.

        Raises :class:`ChannelClosedError` if the connection ends or the client is too slow, and :class:`OSError` or
        :class:`EOFError` if the file cannot be read.
        """
        answer = self._upload.answer
        with answer.file.opened() as fd:
            if not os.fstat(fd).st_nlink:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(answer.file.path))
            if answer.size <= _AT_ONCE:
                content = os.pread(fd, answer.size, answer.offset)
                if len(content) < answer.size:
                    raise EOFError("the file is shorter than the piece")
                self._send_bytes(answer.before + content + answer.after, 0)
                return
            begin = len(answer.before)
            end = begin + answer.size
            self._send_bytes(answer.before, 0, more=True)
            while (position := self._upload.position) < end:
                sent = self._channel.send_file(fd, answer.offset + position - begin, end - position)
                self._note(sent, end)
            self._send_bytes(answer.after, end)

    def _send_bytes(self, data: bytes, begin: int, *, more: bool = False) -> None:
        """Send ``data``, which is the part of the answer from ``begin`` on."""
        end = begin + len(data)
        while (position := self._upload.position) < end:
            self._note(self._channel.send(data[position - begin :], more=more), end)

    def _note(self, sent: int, end: int) -> None:
        self._upload.position += sent
        if self._upload.position == end:
            return
        if self._ended.is_set() or time.monotonic() > self._upload.until:
            raise ChannelClosedError("the client reads too slowly, or this process ends")
        if self._crowded() and not self._channel.writable:
            raise ParkedError


class OpenFiles:
    """Closes the least recently used files, so that few descriptors are open."""

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
