"""Header values as text with one character per byte (latin-1), because HTTP defines them as bytes (RFC 9110, 5.5).

JSON messages and state files keep this text unchanged, and HTTP clients send :func:`to_bytes` of it. So an origin
receives the exact bytes of a Secret, and the exact bytes of an ETag that it sent, even if they are not UTF-8.
"""

import re
from typing import Final

MAX_VALUE: Final = 16 * 1024
"""The most bytes of a header value that a user sets."""
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


def of_bytes(data: bytes) -> str:
    """The text of a header's value. Each character stands for one byte."""
    return data.decode("latin-1")


def of_text(text: str) -> str:
    """The value for text from a user: the bytes of its UTF-8. Raises :class:`ValueError` for a lone surrogate."""
    return of_bytes(text.encode())


def to_bytes(value: str) -> bytes:
    """The bytes to send. Raises :class:`ValueError` for an invalid value, without quoting it."""
    if not is_valid(value):
        raise ValueError("a header value contains a control character, or a character that is not in latin-1")
    return value.encode("latin-1")


def to_text(value: str) -> str:
    """The value as text that people can read: decoded as UTF-8 if its bytes are valid UTF-8, else as latin-1."""
    try:
        return to_bytes(value).decode()
    except UnicodeDecodeError:
        return value


def is_valid(value: str) -> bool:
    """True if the value is valid in a header. It must not contain control characters, which could end the header."""
    return _VALUE.fullmatch(value) is not None
