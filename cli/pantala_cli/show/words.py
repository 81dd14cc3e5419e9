"""Writes numbers in a readable form: sizes, rates, ages, durations and shares. Pure."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime

from pantala_protocol.rules import quantity

_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_UNSAFE_BESIDE_STYLES = re.compile(r"\x1b(?!\[[0-9;]*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]")
UNKNOWN = "-"


def size(count: int | None) -> str:
    """Return bytes in readable form, such as ``97.6Mi``, or ``-`` if unknown."""
    return UNKNOWN if count is None else quantity.render(count)


def rate(count: int) -> str:
    """Return bytes per second, such as ``12.5Mi/s``, or ``-`` if nothing moves."""
    return f"{size(count)}/s" if count else UNKNOWN


def duration(seconds: float | None) -> str:
    """Return a duration as kubectl prints it: ``45s``, ``12m``, ``3h``, ``9d``, or ``-`` if unknown."""
    if seconds is None:
        return UNKNOWN
    whole = max(int(seconds), 0)
    for limit, unit, length in ((120, "s", 1), (7200, "m", 60), (172800, "h", 3600)):
        if whole < limit:
            return f"{whole // length}{unit}"
    return f"{whole // 86400}d"


def clock(at: float, now: float) -> str:
    """Return a time in UTC, such as ``14:05:09Z``, or ``11-28 14:05:09Z`` on another day than ``now``."""
    moment = datetime.fromtimestamp(at, UTC)
    same_day = moment.date() == datetime.fromtimestamp(now, UTC).date()
    return moment.strftime("%H:%M:%SZ" if same_day else "%m-%d %H:%M:%SZ")


def share(part: float | None) -> str:
    """Return a share as a percentage. 100 % means that nothing is missing."""
    if part is None:
        return UNKNOWN
    return "100%" if part >= 1 else f"{int(min(part, 0.99) * 100 + 1e-9)}%"


def epoch(stamp: str) -> float:
    """Return the time of a Kubernetes timestamp in seconds since the epoch."""
    return datetime.fromisoformat(stamp).timestamp()


def counted(count: int, noun: str, many: str = "") -> str:
    """Return a number with its noun, such as ``1 node`` or ``3 nodes``."""
    return f"{count} {noun}" if count == 1 else f"{count} {many or f'{noun}s'}"


def several(names: Iterable[str]) -> str:
    """A readable list of names. It names at most five."""
    known = sorted(names)
    return ", ".join(known[:5]) + (f" and {len(known) - 5} more" if len(known) > 5 else "")


def together(found: Iterable[tuple[str, str]]) -> list[str]:
    """Pairs of a name and a text, with one line for each text, such as ``node-a, node-b: it is cordoned``."""
    names: dict[str, list[str]] = {}
    for name, text in found:
        names.setdefault(text, []).append(name)
    return [f"{several(each)}: {text}" for text, each in names.items()]


def printable(text: str, *, styled: bool = False) -> str:
    """Replace control characters. Messages of origins and registries must not control the user's terminal.

    ``styled``: keep the codes of colours.
    """
    return (_UNSAFE_BESIDE_STYLES if styled else _UNSAFE).sub("?", text)
