"""Words in messages that may come from a newer version. A word that this version does not know degrades.

Processes whose versions differ by one minor version understand each other. Unknown fields are ignored. An unknown word
becomes ``UNKNOWN``, so the rest of the message holds. The code that reads the field decides what ``UNKNOWN`` means.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

UNKNOWN: Final = "Unknown"


class WireWord(StrEnum):
    """An enum in messages. Each subclass has a member ``UNKNOWN`` for the words of newer versions."""

    @classmethod
    def _missing_(cls, value: object) -> WireWord | None:
        return cls(UNKNOWN) if isinstance(value, str) and value != UNKNOWN else None
