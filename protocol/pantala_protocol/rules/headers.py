"""A header value is bytes (RFC 9110, 5.5). As text it has one character per byte: it is latin-1.

This text crosses our JSON and our state files unchanged, and an HTTP client sends :func:`to_bytes` of it. So a Secret's
bytes arrive as they are, and an ETag that is not UTF-8 goes back to its origin as it came.
"""

import re
from typing import Final

MAX_VALUE: Final = 16 * 1024
"""Bytes of one value that a user sets."""
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


def of_bytes(data: bytes) -> str:
    """The value with exactly these bytes."""
    return data.decode("latin-1")


def of_text(text: str) -> str:
    """The value for text that a user writes: its UTF-8. Raises :class:`ValueError` for a lone surrogate."""
    return of_bytes(text.encode())


def to_bytes(value: str) -> bytes:
    """The bytes to send. Raises :class:`ValueError`, without quoting it, for text that is not a header value."""
    if not is_valid(value):
        raise ValueError("a header value has a control character, or a character that is not one byte")
    return value.encode("latin-1")


def to_text(value: str) -> str:
    """The value as a reader understands it: as UTF-8 if it is that, else as latin-1."""
    try:
        return to_bytes(value).decode()
    except UnicodeDecodeError:
        return value


def is_valid(value: str) -> bool:
    """True if a header can carry the value. A control character could end the header."""
    return _VALUE.fullmatch(value) is not None
