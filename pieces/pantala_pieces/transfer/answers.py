"""Receives the answer to one request for a piece: its head is checked, and its body goes directly into the buffer."""

from pantala_pieces.transfer.channel import Channel, ChannelClosedError
from pantala_pieces.transfer.deadlines import AnswerWatch
from pantala_pieces.transfer.errors import CorruptError, ProviderUnreachableError
from pantala_pieces.transfer.requests import PieceRequest

_MAX_HEAD = 8192
"""Bytes of an answer's head, at most."""

_WAKE_AT = 128 * 1024
"""Inside a piece, the kernel wakes the thread only when so many bytes have arrived."""


def receive_answer(channel: Channel, request: PieceRequest, into: memoryview, watch: AnswerWatch) -> bool:
    """Send ``request``, and fill ``into`` with the body of the answer. Returns True if the connection may be kept.

    Raises :class:`FetchError`. Then the connection must not be used again.
    """
    try:
        _send(channel, request.text, watch)
        head, begun = _receive_head(channel, watch)
        keep = request.check_head(head)
        if len(begun) > len(into):
            raise CorruptError("the provider's answer is longer than announced")
        into[: len(begun)] = begun
        watch.body_bytes(len(begun))
        _receive_body(channel, into[len(begun) :], watch)
    except ChannelClosedError as error:
        raise ProviderUnreachableError(f"the connection to the provider ended before the piece: {error}") from error
    return keep


def _send(channel: Channel, text: bytes, watch: AnswerWatch) -> None:
    unsent = memoryview(text)
    while unsent:
        unsent = unsent[channel.send(unsent) :]
        watch.check()


def _receive_head(channel: Channel, watch: AnswerWatch) -> tuple[bytes, bytes]:
    """The head without its empty line, and the first bytes of the body."""
    buffer, filled = memoryview(bytearray(_MAX_HEAD)), 0
    while True:
        count = channel.receive(buffer[filled:])
        if not count:
            watch.check()
            continue
        watch.head_bytes()
        filled += count
        head, separator, begun = bytes(buffer[:filled]).partition(b"\r\n\r\n")
        if separator:
            return head, begun
        if filled == _MAX_HEAD:
            raise CorruptError(f"the headers of the provider's answer have more than {_MAX_HEAD} bytes")


def _receive_body(channel: Channel, into: memoryview, watch: AnswerWatch) -> None:
    received, size = 0, len(into)
    while received < size:
        count = channel.receive(into[received:], wake_at=min(size - received, _WAKE_AT))
        if count:
            received += count
            watch.body_bytes(count)
        else:
            watch.check()
