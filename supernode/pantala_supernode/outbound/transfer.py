"""Performs one HTTP request with libcurl, in the thread of the caller.

The thread does not hold Python's lock while libcurl waits, reads and decrypts. So the event loop does not wait for
transfers.
"""

import contextlib
import errno
import os
import re
import select
import socket
import threading
import time
from collections.abc import Callable

import pycurl

from pantala_supernode.errors import SourceDeniedError
from pantala_supernode.outbound import proxy
from pantala_supernode.outbound.egress import Destination
from pantala_supernode.outbound.errors import CancelledTransferError, Fault, OutboundError
from pantala_supernode.outbound.handles import Handle
from pantala_supernode.outbound.request import Head, Timeouts

_BUFFER = 256 * 1024
_TOO_LARGE = 100
"""CURLE_TOO_LARGE, which pycurl does not name."""
_FAULTS = {
    pycurl.E_URL_MALFORMAT: Fault.URL,
    pycurl.E_COULDNT_RESOLVE_HOST: Fault.HOST_UNKNOWN,
    pycurl.E_COULDNT_RESOLVE_PROXY: Fault.PROXY,
    pycurl.E_COULDNT_CONNECT: Fault.UNREACHABLE,
    pycurl.E_OPERATION_TIMEDOUT: Fault.TIMEOUT,
    pycurl.E_PEER_FAILED_VERIFICATION: Fault.CERTIFICATE,
    pycurl.E_SSL_CONNECT_ERROR: Fault.CERTIFICATE,
    pycurl.E_SSL_CACERT_BADFILE: Fault.CERTIFICATE,
    pycurl.E_PARTIAL_FILE: Fault.INTERRUPTED,
    pycurl.E_RECV_ERROR: Fault.INTERRUPTED,
    pycurl.E_SEND_ERROR: Fault.INTERRUPTED,
    pycurl.E_GOT_NOTHING: Fault.INTERRUPTED,
    _TOO_LARGE: Fault.HEAD_TOO_LARGE,
}
_CUT = re.compile(r"unexpected eof|SSL_ERROR_SYSCALL|reset by peer", re.IGNORECASE)
"""The words of libcurl and OpenSSL about a cut connection with TLS, whose error number says nothing about the cut."""
_UNNOTICED = re.compile(r"unexpected eof|SSL_ERROR_SYSCALL, errno 0", re.IGNORECASE)
"""The messages about a connection that the server closed without the end that TLS demands (``close_notify``)."""
_QUIET = 1.0
"""Seconds that libcurl may wait for the end of the connection after the last announced byte."""
_NO_TLS = re.compile("wrong version number|packet length too long", re.IGNORECASE)
"""OpenSSL's messages about an answer that is not TLS."""
_WHOLE = 16 * 1024
"""The most bytes that libcurl hands over at once. Fewer bytes mean that libcurl has read all that has arrived."""
_GATHERED_ABOVE = 1024 * 1024
_GATHER, _FAST = 0.004, 16 * 1024 * 1024
"""Seconds to wait for more bytes of a large body, and the rate above which the supernode does not wait. A slow server
sends packets one by one. Without the wait, each packet wakes this thread, and costs as much time as 16 KiB."""
_SURPLUS_WAIT = 0.01
"""Seconds to wait for bytes after the announced end of a body. In this time, bytes in transit arrive."""


class Transfer:
    """One request and its answer. :meth:`run` blocks. Any thread may call :meth:`cancel`."""

    def __init__(
        self,
        handle: Handle,
        *,
        destination: Destination,
        timeouts: Timeouts,
        head_limit: int,
        on_head: Callable[[Head], bool],
        on_body: Callable[[bytes], None],
        same_origin: bool,
        url: str,
    ) -> None:
        """``on_head`` returns False to skip the body, for example after a redirect. ``head_limit`` is in bytes."""
        self._handle = handle.curl
        self._destination = destination
        self._timeouts = timeouts
        self._head_limit = head_limit
        self._on_head = on_head
        self._on_body = on_body
        self._same_origin = same_origin
        self._url = url
        self._cancelled = False
        self._sockets = handle.sockets
        self._lock = threading.Lock()
        """Held while the sockets are shut down or released."""
        self._error: BaseException | None = None
        self._lines: list[bytes] = []
        self._size = 0
        self._head: Head | None = None
        self._skips = self._surplus = False
        self._received = 0
        self._allowed: int | None = None
        self._last_byte = self._window_from = 0.0
        self._window_bytes = 0
        self._length = 0
        """The announced length of the body. 0: not known."""
        self._gathered_at, self._gathered_bytes = 0.0, 0

    def cancel(self) -> None:
        """End the transfer. A connected transfer ends within 100 ms."""
        self._cancelled = True
        with self._lock:
            for each in tuple(self._sockets):
                with contextlib.suppress(OSError):  # not connected yet, or closed already
                    each.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Leave the sockets to the next transfer of the handle. :meth:`cancel` does not shut them down any more."""
        with self._lock:
            self._sockets = []

    def run(self) -> Head:
        """Perform the request that the handle describes, and read its whole answer. Returns the answer's head.

        Raises :class:`OutboundError`, :class:`CancelledTransferError`, and errors of ``on_head`` and ``on_body``.
        """
        handle = self._handle
        handle.setopt(pycurl.HEADERFUNCTION, self._header)
        handle.setopt(pycurl.WRITEFUNCTION, self._body)
        handle.setopt(pycurl.OPENSOCKETFUNCTION, self._open_socket)
        handle.setopt(pycurl.VERBOSE, 1)
        handle.setopt(pycurl.DEBUGFUNCTION, self._debug)
        handle.setopt(pycurl.NOPROGRESS, 0)
        handle.setopt(pycurl.XFERINFOFUNCTION, self._progress)
        handle.setopt(pycurl.BUFFERSIZE, _BUFFER)
        self._last_byte = self._window_from = time.monotonic()
        try:
            handle.perform()
        except pycurl.error as error:
            if not self._is_end(int(error.args[0])):
                raise self._translated(error) from None
        else:
            if not self._skips:
                self._check_surplus()
        finally:
            for each in tuple(self._sockets):
                each.close()  # libcurl has its own duplicates
        if self._head is None:
            raise OutboundError(Fault.PROTOCOL, "no status line")
        return self._head

    def _is_end(self, number: int) -> bool:
        """True if the answer is complete, although libcurl reports the error ``number``.

        A server with TLS may end a body without a length by closing the connection, without ``close_notify``.
        Callers accept such a body only with a digest, which shows if it was cut.
        """
        if self._error is not None or self._cancelled or self._head is None:
            return False
        if self._skips:
            return number == pycurl.E_WRITE_ERROR
        if number == pycurl.E_ABORTED_BY_CALLBACK:
            return self._has_all()
        framed = self._head.chunked or self._head.length is not None
        return not framed and number == pycurl.E_RECV_ERROR and bool(_UNNOTICED.search(self._handle.errstr()))

    def _has_all(self) -> bool:
        """True if the body has its announced length. libcurl ignores a length beside some other framing."""
        return 0 < self._received == self._length

    def _translated(self, error: pycurl.error) -> BaseException:
        if self._cancelled:
            return CancelledTransferError()
        if self._error is not None:
            return self._error
        if self._head is None and self._handle.getinfo(pycurl.HTTP_CONNECTCODE) >= 300:
            return proxy.refusal(self._handle.getinfo(pycurl.HTTP_CONNECTCODE))
        number, system = int(error.args[0]), self._handle.getinfo(pycurl.OS_ERRNO)
        if number == pycurl.E_COULDNT_CONNECT and system == errno.ECONNREFUSED:
            return OutboundError(Fault.REFUSED)
        if number == pycurl.E_COULDNT_CONNECT and system:
            return OutboundError(Fault.UNREACHABLE, os.strerror(system).lower())
        if number in (pycurl.E_SSL_CONNECT_ERROR, pycurl.E_RECV_ERROR) and _CUT.search(self._handle.errstr()):
            where = "in the TLS handshake" if number == pycurl.E_SSL_CONNECT_ERROR else f"curl {number}"
            return OutboundError(Fault.INTERRUPTED, where)
        if number == pycurl.E_SSL_CONNECT_ERROR and _NO_TLS.search(self._handle.errstr()):
            return OutboundError(Fault.NO_TLS)
        if number == pycurl.E_RECV_ERROR and system == 0:
            return OutboundError(Fault.PROTOCOL, "its framing is wrong")
        return OutboundError(_FAULTS.get(number, Fault.PROTOCOL), f"curl {number}")

    # libcurl calls these methods, and would only print their exceptions. So they store an exception and end the
    # transfer. Then run() raises the stored exception.

    def _header(self, line: bytes) -> int | None:
        self._size += len(line)
        if self._size > self._head_limit:
            return self._fail(OutboundError(Fault.HEAD_TOO_LARGE, f"{self._head_limit} bytes"))
        if line[:5].upper() == b"HTTP/":
            self._lines = []
        if line.strip():
            self._lines.append(line)
            return None
        if not self._lines or self._head is not None:
            return None  # the trailer section after a chunked body
        return self._finish_head()

    def _finish_head(self) -> int | None:
        try:
            head = Head.read(self._lines, same_origin=self._same_origin, url=self._url)
            if 100 <= head.status < 200:
                return None
            self._check_source(head)
            self._head = head
            self._length = head.length or 0
            self._skips = not self._on_head(head)
        except BaseException as error:
            return self._fail(error)
        return None

    def _check_source(self, head: Head) -> None:
        """Check the server's address again, because a kept connection may be older than the policies."""
        for each in self._sockets:
            with contextlib.suppress(OSError):  # libcurl did not choose this connection
                address = str(each.getpeername()[0])
                self._destination.check(address)
                self._allowed = self._destination.size_limit(address)
        self._check_size(_announced(head))

    def _check_size(self, size: int) -> None:
        if self._allowed is not None and size > self._allowed:
            raise SourceDeniedError.with_action(
                f"The file has at least {size} bytes, and the origin's SourcePolicy allows {self._allowed}"
            )

    def _body(self, data: bytes) -> int | None:
        if self._cancelled or self._skips:
            return 0
        if self._head is None:
            return self._fail(OutboundError(Fault.PROTOCOL, "no status line"))
        self._received += len(data)
        begun = time.monotonic()
        try:
            self._check_size(self._received)
            self._on_body(data)
        except BaseException as error:
            return self._fail(error)
        self._last_byte = time.monotonic()
        self._window_from += self._last_byte - begun  # the server is not slow while the sink blocks
        if len(data) < _WHOLE and _GATHERED_ABOVE < self._received < self._length:
            self._gather(self._last_byte)
        return None

    def _gather(self, now: float) -> None:
        """Let more bytes of a slow server arrive before libcurl reads again."""
        slow = self._received - self._gathered_bytes < (now - self._gathered_at) * _FAST
        self._gathered_at, self._gathered_bytes = now, self._received
        if slow and not self._has_arrived():
            time.sleep(_GATHER)

    def _has_arrived(self) -> bool:
        """True if the kernel may have bytes for libcurl."""
        poll, own = select.poll(), tuple(self._sockets)
        for each in own:
            poll.register(each, select.POLLIN)
        return not own or bool(poll.poll(0))

    def _open_socket(self, purpose: int, address: tuple[int, int, int, tuple[str, int]]) -> socket.socket | int:
        family, kind, protocol, (host, *_) = address
        try:
            self._destination.check(host)
            opened = socket.socket(family, kind, protocol)
        except SourceDeniedError as error:
            self._error = error
            return pycurl.SOCKET_BAD
        except OSError as error:  # no descriptor is left, or the kernel has no IPv6
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._error = OutboundError(Fault.UNREACHABLE, f"no socket is left: {error.strerror}")
            return pycurl.SOCKET_BAD
        self._sockets.append(opened)
        return opened

    def _progress(self, *_: float) -> int:
        """Check the time limits. libcurl calls this at least once a second. Returns 1 to end the transfer."""
        now = time.monotonic()
        if self._cancelled or self._error is not None:
            return 1
        if self._has_all() and now - self._last_byte > _QUIET:
            return 1
        allowed = self._timeouts.stall if self._received else self._timeouts.first_byte
        if now - self._last_byte > allowed:
            self._error = OutboundError(Fault.TIMEOUT, f"no byte in {allowed:.0f} s")
            return 1
        if now - self._window_from >= self._timeouts.window:
            if self._received and self._received - self._window_bytes < self._timeouts.minimum:
                sent = self._received - self._window_bytes
                self._error = OutboundError(Fault.TIMEOUT, f"only {sent} bytes in {self._timeouts.window:.0f} s")
                return 1
            self._window_from, self._window_bytes = now, self._received
        return 0

    def _fail(self, error: BaseException) -> int:
        # The traceback refers to blocks of the body. Its cycle with this object would keep them in memory for long.
        self._error = error.with_traceback(None) if isinstance(error, CancelledTransferError) else error
        return -1

    def _debug(self, kind: int, text: bytes) -> None:
        """Detect bytes after the announced end of a body. libcurl drops them, and reports them only in a debug text."""
        if kind == pycurl.INFOTYPE_TEXT and text.startswith(b"Excess found"):
            self._surplus = True

    def _check_surplus(self) -> None:
        """Raise :class:`OutboundError` if the server sent bytes after the announced end, also a moment later."""
        own = self._sockets[-1].fileno() if self._sockets else -1
        late = own >= 0 and self._received and self._handle.getinfo(pycurl.SCHEME).lower() == "http" and _waiting(own)
        if self._surplus or late:
            raise OutboundError(Fault.BODY_TOO_LONG)


def _announced(head: Head) -> int:
    """The length of the whole file that an answer announces. 0: none."""
    total = head.fields.get("Content-Range", "").rpartition("/")[2]
    return max(_number(total), head.length or 0)


def _number(text: str) -> int:
    """A number of bytes in a field. 0 if the field is missing or wrong."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _waiting(descriptor: int) -> bool:
    """True if a connection has unread bytes, or receives bytes within :data:`_SURPLUS_WAIT`."""
    with contextlib.suppress(OSError):
        poll = select.poll()  # unlike select, poll accepts descriptors above 1023
        poll.register(descriptor, select.POLLIN)
        if poll.poll(_SURPLUS_WAIT * 1000):
            with socket.socket(fileno=os.dup(descriptor)) as connection:
                return bool(connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    return False
