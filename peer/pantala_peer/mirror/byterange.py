"""The ``Range`` header of one request for a blob (RFC 9110, section 14). Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

_RANGE = re.compile(r"bytes[ \t]*=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.ASCII | re.IGNORECASE)


class ByteRange(NamedTuple):
    """The bytes ``[start, end)``."""

    start: int
    end: int


class UnsatisfiableError(ValueError):
    """None of the bytes exists."""


def parse(header: str | None, length: int) -> ByteRange | None:
    """The part of ``length`` bytes that is asked for; ``None``: the whole, also if the header cannot be read.

    Several ranges at once are answered with the whole, as may be. Raises :class:`UnsatisfiableError`.
    """
    match = _RANGE.fullmatch(header) if header else None
    if match is None or match.group(1, 2) == ("", ""):
        return None
    first, last = match.group(1, 2)
    if not first:
        start, end = max(0, length - int(last)), length
    else:
        start, end = int(first), min(int(last) + 1, length) if last else length
        if last and int(last) < start:
            return None
    if start >= end:
        raise UnsatisfiableError(f"there is no byte of it among {length}")
    return ByteRange(start, end)
