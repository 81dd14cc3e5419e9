"""Reads and writes sizes as Kubernetes quantities, such as ``20Gi``, and writes shares. Pure."""

import re

_UNITS = ("", "Ki", "Mi", "Gi", "Ti", "Pi")
_FACTORS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15} | {
    unit: 1 << 10 * power for power, unit in enumerate(_UNITS)
}


def render(size: int) -> str:
    """Write a size in the largest binary unit that fits, with one decimal unless it is whole: ``1.5Gi``, ``20Mi``."""
    value, unit = float(size), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value /= 1024
        unit += 1
    return f"{value:.1f}".removesuffix(".0") + _UNITS[unit]


def percent(done: float, whole: float) -> str:
    """A share in whole percent, rounded down: ``42%``.

    It is 100 % only if nothing is left. It is 0 % if ``whole`` is 0.
    """
    return f"{int(100 * done / whole) if whole > 0 else 0}%"


def parse(text: str) -> int:
    """Return the bytes of a quantity such as ``20Gi``. Raises :class:`ValueError`."""
    match = re.fullmatch(r"([0-9]+)([A-Za-z]*)", text)
    if match is None or match[2] not in _FACTORS:
        raise ValueError(f"{text!r} is not a quantity of bytes. Give a whole number with Ki, Mi, Gi, Ti or Pi")
    return int(match[1]) * _FACTORS[match[2]]
