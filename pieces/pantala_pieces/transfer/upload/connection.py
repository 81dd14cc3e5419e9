"""A connection that a client opened to fetch pieces."""

import contextlib
import select
import socket
import ssl
import struct

from pantala_pieces.transfer.channel import PEEK, SEND_TICK, Channel, ChannelClosedError
from pantala_pieces.transfer.upload.heads import MAX_HEAD, RequestHead, parse, split
from pantala_process.tls.contexts import name_of

_DRAINED = 64 * 1024
"""The most bytes that one call reads and drops after the last answer."""

_NAMELESS = "-"
"""Stands for a client whose certificate has no name. No ticket is issued for this name."""
_AT_ONCE = struct.pack("ii", 1, 0)


class InboundConnection:
    """One client's connection. The reception reads heads from it, and lends its channel to an uploader for an answer.

    Only one thread at a time may use a connection, except for :meth:`abort`.
    """

    def __init__(self, accepted: socket.socket, tls: ssl.SSLContext | None, address: str = "") -> None:
        self.address = address
        """The client's address."""
        self.number = accepted.fileno()
        """The number of its file descriptor, also after it was closed."""
        self.deadline = 0.0
        """When the reception closes the connection, in monotonic seconds. Infinity while an answer waits or is sent."""
        self.ending = False
        """True after the last answer. The client may not have read all of it, so its further bytes are only dropped."""
        self._received = b""
        self._client: str | None = None
        self._secured: ssl.SSLSocket | None = None
        self._socket = accepted
        if tls is not None:
            accepted.setblocking(False)
            self._secured = self._socket = tls.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
        self.channel = Channel(self._socket)
        self.take_back()

    def lend(self) -> Channel:
        """The channel, for an uploader. Its calls wait until :meth:`take_back`."""
        if self._secured is not None:
            self._secured.settimeout(SEND_TICK)
        return self.channel

    def take_back(self) -> None:
        if self._secured is not None:
            self._secured.setblocking(False)

    @property
    def client(self) -> str:
        """The name in the client's certificate, after the first request has arrived. Empty on plain HTTP."""
        if self._client is None:
            self._client = "" if self._secured is None else name_of(self._secured.getpeercert()) or _NAMELESS
        return self._client

    @property
    def begun(self) -> bool:
        """True if bytes of the next request have arrived."""
        return bool(self._received)

    @property
    def readable(self) -> bool:
        """True if this process has already read bytes of the next request. The kernel does not report them."""
        return bool(self._received) or (self._secured is not None and self._secured.pending() > 0)

    def receive(self) -> bool:
        """Read at most the size of a head. False: nothing has arrived. Raises :class:`ChannelClosedError`."""
        most = MAX_HEAD - len(self._received)
        try:
            if self._secured is not None:
                arrived = self._secured.recv(most)  # this also does the handshake
            else:
                arrived = self._socket.recv(most, socket.MSG_DONTWAIT)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError as error:
            raise ChannelClosedError(f"the connection broke: {error}") from error
        if not arrived:
            raise ChannelClosedError("the client closed the connection")
        self._received += arrived
        return True

    def next_head(self) -> RequestHead | None:
        """Take the next request from the received bytes. ``None``: it is not complete. Raises ``PieceRefusedError``."""
        found = split(self._received)
        if found is None:
            return None
        head, self._received = found
        return parse(head)

    def drain(self) -> None:
        """Drop all bytes that have arrived. Raises :class:`ChannelClosedError` once the client has closed its side."""
        self._received = b""
        try:
            arrived = socket.socket.recv(self._socket, _DRAINED, socket.MSG_DONTWAIT)  # with TLS: not decrypted
        except BlockingIOError:
            return
        except OSError as error:
            raise ChannelClosedError(f"the connection broke: {error}") from error
        if not arrived:
            raise ChannelClosedError("the client closed the connection")

    def answer(self, data: bytes) -> None:
        """Send a short answer without waiting. Raises :class:`ChannelClosedError` if the client does not read it."""
        try:
            if self._secured is not None:
                sent = self._secured.send(data)
            else:
                sent = self._socket.send(data, socket.MSG_DONTWAIT)
        except OSError as error:
            raise ChannelClosedError(f"the client does not read its answer: {error}") from error
        if sent < len(data):
            raise ChannelClosedError("the client does not read its answers")

    @property
    def gone(self) -> bool:
        """True if the client has closed its side, so it does not wait for an answer."""
        return self._peek() == b""

    @property
    def unread(self) -> bool:
        """True if unread bytes of the client have arrived. Closing the connection now could lose the last answer."""
        return bool(self._received or self._peek())

    def finish(self) -> None:
        """Close this side, because no answer follows. Bytes that the client still sends are dropped."""
        self.ending = True
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_WR)  # SSLSocket's would make it a plain socket

    def forget_unsent(self) -> None:
        """When the connection is closed, let the kernel drop the bytes that the client has not read."""
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)

    def abort(self) -> None:
        self.channel.abort()

    def close(self) -> None:
        self.channel.close()

    def _peek(self) -> bytes | None:
        """The next byte, without removing it. Empty: the client has closed its side. ``None``: no byte has arrived."""
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        if not poller.poll(0):  # with TLS, Python would wait for a byte until the timeout of the socket
            return None
        try:
            return socket.socket.recv(self._socket, 1, PEEK)
        except BlockingIOError:
            return None
        except OSError:
            return b""
