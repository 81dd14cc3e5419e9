"""Reads and writes sizes as Kubernetes quantities, such as ``20Gi``, and writes shares. Pure."""

import re
from decimal import Decimal

_UNITS = ("", "Ki", "Mi", "Gi", "Ti", "Pi")
_POWERS = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
_QUANTITY = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)([kMGTPE]|[KMGTPE]i)?")


def render(size: int) -> str:
    """Write a size in the largest binary unit that fits, with one decimal unless it is whole: ``1.5Gi``, ``20Mi``."""
    value, unit = float(size), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f}".removesuffix(".0") + _UNITS[unit]


def percent(done: float, whole: float) -> str:
    """A share in whole percent, rounded down: ``42%``.

    It is 100 % only if nothing is left. It is 0 % if ``whole`` is 0.
    """
    return f"{int(100 * done / whole) if whole > 0 else 0}%"


def parse(text: str) -> int:
    """Return the bytes of a quantity such as ``20Gi`` or ``1.5G``. Raises :class:`ValueError`."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size. Write a size such as 50Gi.")
    unit = match[2] or ""
    return int(Decimal(match[1]) * (1024 if unit.endswith("i") else 1000) ** _POWERS[unit.removesuffix("i")])
