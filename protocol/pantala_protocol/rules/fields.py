"""Types of fields in messages: numbers and texts with bounds, and words that this version may not know.

A message that breaks a bound is refused before it takes memory or time.

Processes whose versions differ by one minor version understand each other. Unknown fields are ignored. An unknown word
becomes ``UNKNOWN``, and all other fields stay valid. The code that reads the field decides what ``UNKNOWN`` means.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from pantala_protocol.ranges import MAX_PIECE

Count = Annotated[int, Meta(ge=0, lt=1 << 53)]
"""A whole number that every JSON reader reads exactly, because it has at most 53 bits (RFC 8259, section 6)."""
Number = Annotated[int, Meta(gt=-(1 << 53), lt=1 << 53)]
"""A whole number that may be negative, with the same bounds as :data:`Count`."""
SmallCount = Annotated[int, Meta(ge=0, lt=1 << 31)]
"""A number of things in one cluster. The fields of statuses have 32 bits."""
PieceNumber = Annotated[int, Meta(ge=0, le=MAX_PIECE)]
PieceSize = Annotated[int, Meta(ge=0, le=1 << 26)]
"""Bytes of a piece. The largest that Pantala makes have 15 MiB."""
Slots = Annotated[int, Meta(ge=0, le=1 << 16)]
"""How many pieces a process can send or receive at the same time."""
Port = Annotated[int, Meta(ge=0, lt=1 << 16)]
Name = Annotated[str, Meta(max_length=253)]
"""The name of a node, a pod or a registry, or an empty text."""
MAX_KEY: Final = 512
Key = Annotated[str, Meta(max_length=MAX_KEY)]
"""``namespace/name``, a path or another short text of an object."""
Id = Annotated[str, Meta(max_length=256)]
"""A task ID, a generation, a UID, a digest, a boot ID or another text that a program makes."""
Url = Annotated[str, Meta(max_length=8192)]

UNKNOWN: Final = "Unknown"
_T = TypeVar("_T")


def decode(body: bytes, kind: type[_T]) -> _T:
    """Read a message in JSON. Raises :class:`ValueError` for anything else."""
    try:
        return msgspec.json.decode(body, type=kind)
    except RecursionError:
        raise ValueError("the message is nested too deeply") from None


class WireWord(StrEnum):
    """An enum in messages. Each subclass has a member ``UNKNOWN`` for the words of newer versions."""

    @classmethod
    def _missing_(cls, value: object) -> WireWord | None:
        return cls(UNKNOWN) if isinstance(value, str) and value != UNKNOWN else None
