"""Sets of pieces: a bit mask in memory, ``"0-3,7"`` in messages. Sets of nodes by number have the same form."""

import re
from collections.abc import Iterator

MAX_PIECE = (1 << 22) - 1
"""The highest piece number: 4 Mi pieces of 4 MiB are 16 TiB. The limit bounds the memory that a hostile text takes."""

_RANGE = re.compile(r"(0|[1-9][0-9]{0,6})(?:-(0|[1-9][0-9]{0,6}))?")


def parse(text: str) -> int:
    """Read a set of pieces, e.g. ``"0-3,7"``. An empty text is the empty set.

    The time is in proportion to the length of the text and the highest piece. Raises :class:`ValueError` unless
    :func:`render` could write the text. As an exception, adjacent ranges such as ``"0-1,2"`` need not be joined.
    """
    bits, end = bytearray(), 0
    for part in text.split(",") if text else ():
        match = _RANGE.fullmatch(part)
        if match is None:
            raise ValueError(f"{part[:40]!r} is not a valid range of pieces.")
        first = int(match[1])
        last = int(match[2]) if match[2] is not None else first
        if last < first or last > MAX_PIECE:
            raise ValueError(f"{part!r} is not a valid range of pieces.")
        if first < end:
            raise ValueError(f"The range of pieces {part!r} overlaps the previous range, or is not in ascending order.")
        end = last + 1
        start, stop = first >> 3, last >> 3
        bits.extend(bytes(stop + 1 - len(bits)))
        bits[start] |= 0xFF << (first & 7) & 0xFF
        if stop > start:
            bits[start + 1 :] = b"\xff" * (stop - start)
        bits[stop] &= 0xFF >> (7 - (last & 7))
    return int.from_bytes(bits, "little")


def render(mask: int) -> str:
    """Write a set of pieces in its canonical form: ascending and joined."""
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in runs(mask))


def runs(mask: int) -> Iterator[tuple[int, int]]:
    """The maximal runs ``(first, last)`` of a set, ascending."""
    for run in re.finditer("1+", f"{mask:b}"[::-1]):
        yield run.start(), run.end() - 1


def members(mask: int) -> Iterator[int]:
    """The pieces of a set, ascending."""
    if mask and not mask & (mask - 1):  # most sets have one piece
        yield mask.bit_length() - 1
        return
    for first, last in runs(mask):
        yield from range(first, last + 1)
