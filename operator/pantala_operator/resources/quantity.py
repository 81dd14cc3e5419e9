"""Sizes for people to read. Pure."""

from __future__ import annotations

_UNITS = ("", "Ki", "Mi", "Gi", "Ti", "Pi")


def render(size: int) -> str:
    """Bytes in the largest binary unit that leaves at least 1, with one decimal where it is not whole: ``1.5Gi``."""
    value, unit = float(size), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value /= 1024
        unit += 1
    return f"{value:.1f}".removesuffix(".0") + _UNITS[unit]
