"""How long containerd is let wait. It has no patience of its own: it would wait for ever."""

from __future__ import annotations

from dataclasses import dataclass

_SMALL = 64 * 1024


@dataclass(frozen=True, slots=True)
class Deadlines:
    """In seconds. A pull whose supernode hangs loses one of them, at most, and then the breaker is open."""

    manifest: float = 4.0
    """To a manifest: the supernode may have to fetch a token for it first, and ask a registry far away twice."""
    small: float = 4.0
    """To the first byte of a config, or of what is as small."""
    blob: float = 5.0
    """To the first byte of a layer: a piece must be fetched from the registry and come here, and verified."""
    again: float = 10.0
    """Without the next byte until it is asked for again."""
    stall: float = 20.0
    """Without the next byte until the connection is ended: containerd goes on at the registry from there."""
    reader: float = 300.0
    """In which the one who asked must take what it is sent, some 256 KiB; else it is gone."""

    def first_byte(self, size: int, *, is_config: bool) -> float:
        """To the first byte of a blob of ``size`` bytes."""
        return self.small if is_config or size <= _SMALL else self.blob
