"""The threads that send pieces."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol

import structlog

from pantala_pieces.errors import EXHAUSTED
from pantala_pieces.transfer.channel import ChannelClosedError
from pantala_pieces.transfer.upload.connection import InboundConnection
from pantala_pieces.transfer.upload.fetches import FetchLog
from pantala_pieces.transfer.upload.heads import PieceRefusedError, busy
from pantala_pieces.transfer.upload.queue import Upload, UploadQueue
from pantala_pieces.transfer.upload.stream import AnswerStream, OpenFiles, ParkedError

_log = structlog.get_logger(__name__)

_SOON = 0.05
"""Seconds. If a request has waited longer, the thread checks whether its client is still connected."""

_UNREADABLE = PieceRefusedError(HTTPStatus.NOT_FOUND, "NotHeld", "This provider cannot read the piece.")


class Returns(Protocol):
    """Takes connections back after their answers."""

    def give_back(self, connection: InboundConnection, *, keep: bool) -> None: ...

    def refuse(self, connection: InboundConnection, refusal: PieceRefusedError, *, keep: bool) -> None:
        """Answer with an error, and take the connection back."""

    def park(self, upload: Upload) -> None:
        """Keep an upload until its client has read the bytes sent so far."""

    def abandon(self, connection: InboundConnection) -> None:
        """Close a connection that broke."""


class Uploaders:
    """``slots`` threads that send pieces, in the order that :class:`UploadQueue` chooses."""

    def __init__(self, slots: int, log: FetchLog, pace: Callable[[int], float] | None) -> None:
        self.queue = UploadQueue(pace)
        self._slots = slots
        self._log = log
        self._files = OpenFiles()
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, returns: Returns) -> None:
        for number in range(self._slots):
            thread = threading.Thread(target=self._work, args=(returns,), name=f"piece-upload-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Let each thread end once no upload waits."""
        self.queue.close()

    def join(self, until: float) -> bool:
        """Wait for the threads until a time in monotonic seconds. Returns whether all have ended."""
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0.0))
        return not any(thread.is_alive() for thread in self._threads)

    def cut(self) -> None:
        """Send no further byte. Running calls end when their channels are aborted."""
        self._ended.set()

    def _work(self, returns: Returns) -> None:
        while (upload := self.queue.take()) is not None:
            try:
                self._serve(upload, returns)
            except Exception:
                text = "a piece was not sent because of a bug; its connection is closed; please report it"
                _log.exception(text, task=upload.answer.fetch.task_id)
                returns.abandon(upload.connection)

    def _serve(self, upload: Upload, returns: Returns) -> None:
        connection, answer = upload.connection, upload.answer
        channel = connection.lend()
        self._log.begin()
        whole = parked = False
        try:
            _check_present(upload)
            self._files.use(answer.file)
            AnswerStream(upload, channel, self._ended, lambda: self.queue.crowded).send()
            whole = True
        except ParkedError:
            parked = True
        except ChannelClosedError:
            connection.forget_unsent()
            returns.abandon(connection)
        except (OSError, EOFError) as error:
            exhausted = isinstance(error, OSError) and error.errno in EXHAUSTED
            if not exhausted:
                self._log.missing(answer.fetch.task_id)
            if upload.position:
                returns.abandon(connection)
            else:
                returns.refuse(connection, busy() if exhausted else _UNREADABLE, keep=answer.keep)
        finally:
            if parked:
                self._log.pause()
            else:
                self._log.end(answer.fetch, answer.counted if whole else 0)
        if whole:
            returns.give_back(connection, keep=answer.keep)
        elif parked:
            returns.park(upload)


def _check_present(upload: Upload) -> None:
    """Raise :class:`ChannelClosedError` if the client closed the connection while its request waited."""
    if time.monotonic() - upload.queued_at > _SOON and not upload.begun and upload.connection.gone:
        raise ChannelClosedError("the client closed the connection before the answer")
