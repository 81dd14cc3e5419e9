"""Receives the answer to one request for a piece: checks its head, and receives its body directly into the buffer."""

from pantala_pieces.transfer.channel import Channel, ChannelClosedError
from pantala_pieces.transfer.deadlines import AnswerWatch
from pantala_pieces.transfer.errors import CorruptError, ProviderUnreachableError
from pantala_pieces.transfer.requests import PieceRequest

_MAX_HEAD = 8192
"""The most bytes of an answer's head."""

_END_OF_HEAD = b"\r\n\r\n"

_AT_ONCE = 256 * 1024
"""If at most this many bytes of a piece are missing, the kernel wakes the thread only when all have arrived."""

_WAKE_AT = 128 * 1024
"""If more bytes are missing, the kernel wakes the thread each time that this many bytes have arrived."""


def receive_answer(channel: Channel, request: PieceRequest, into: memoryview, watch: AnswerWatch) -> bool:
    """Send ``request``, and fill ``into`` with the body of the answer. Returns True if the connection may be kept.

    Raises :class:`FetchError`. Then the connection must not be used again.
    """
    try:
        _send(channel, request.text, watch)
        head, begun = _receive_head(channel, watch)
        keep = request.check_head(head)
        received = len(begun)
        if received > request.size:
            raise CorruptError("the provider's answer is longer than announced")
        into[:received] = begun
        watch.begin_body(received)
        left = request.size - received
        while left:
            count = channel.receive(into[-left:], wake_at=left if left <= _AT_ONCE else _WAKE_AT)
            if count:
                left -= count
                watch.progress(count)
            else:
                watch.check()
    except ChannelClosedError as error:
        raise ProviderUnreachableError(f"the connection to the provider ended before the piece: {error}") from error
    return keep


def _send(channel: Channel, text: bytes, watch: AnswerWatch) -> None:
    sent = channel.send(text)
    while sent < len(text):
        watch.check()
        text = text[sent:]
        sent = channel.send(text)


def _receive_head(channel: Channel, watch: AnswerWatch) -> tuple[bytes, bytes]:
    """The head without its empty line, and the first bytes of the body."""
    received, left = b"", _MAX_HEAD
    while left:
        arrived = channel.receive_some(left)
        if not arrived:
            watch.check()
            continue
        watch.progress()
        received += arrived
        head, separator, begun = received.partition(_END_OF_HEAD)
        if separator:
            return head, begun
        left -= len(arrived)
    raise CorruptError(f"the headers of the provider's answer have more than {_MAX_HEAD} bytes")
