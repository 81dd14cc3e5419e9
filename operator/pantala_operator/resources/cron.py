"""Cron expressions, read as CronJobs read them: by the standard parser of robfig/cron. Pure.

``?`` means ``*`` in every field. ``*`` or ``?`` in a day field leaves the choice to the other day field. ``*/2`` is a
choice of its own. If both day fields make a choice, a day that fits one of them is due. CronSim decides this by the
first character of a field.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

_MACROS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "@yearly": "0 0 1 1 *",
        "@annually": "0 0 1 1 *",
        "@monthly": "0 0 1 * *",
        "@weekly": "0 0 * * 0",
        "@daily": "0 0 * * *",
        "@midnight": "0 0 * * *",
        "@hourly": "0 * * * *",
    }
)
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


class CronField(NamedTuple):
    """One of the five fields."""

    name: str
    least: int
    most: int
    words: tuple[str, ...] = ()
    """Names of values, beginning with the least value."""
    stars: bool = False
    """CronSim may see that all values are stepped through: it handles changes of the clock accordingly."""


_FIELDS: Final = (
    CronField("minute", 0, 59, stars=True),
    CronField("hour", 0, 23, stars=True),
    CronField("day-of-month", 1, 31),
    CronField("month", 1, 12, _MONTHS, stars=True),
    CronField("day-of-week", 0, 6, _DAYS),
)
_VALUE: Final = "([0-9]{1,2}|[a-z]{3})"
_RANGE: Final = rf"([*?]|{_VALUE}(-{_VALUE})?)(/[0-9]{{1,3}})?"
_FIELD: Final = f"{_RANGE}(,{_RANGE})*"
PATTERN: Final = rf"^({'|'.join(_MACROS)}|(?i:[ \t]*{_FIELD}([ \t]+{_FIELD}){{4}}[ \t]*))$"
"""The form of an expression, for Python and for RE2. ``charts/generate.py`` writes it into the CRD."""
_PATTERN = re.compile(PATTERN)


def standard(text: str) -> str:
    """The same schedule for CronSim. Raises :class:`ValueError`."""
    if _PATTERN.fullmatch(text) is None:
        why = "it does not have the form of a CronJob's schedule, such as 30 2 * * *"
        raise ValueError(f"{why}. Put a time zone into timeZone" if "TZ" in text else why)
    fields = zip(_FIELDS, _MACROS.get(text, text).split(), strict=True)
    return " ".join(_field(field, part) for field, part in fields)


def _field(field: CronField, text: str) -> str:
    parts = [_range(field, part) for part in text.split(",")]
    if "*" in parts:
        return "*"
    return ",".join(parts)


def _range(field: CronField, text: str) -> str:
    """One range, as ``*``, ``*/step`` or a list of values."""
    values, slash, given = text.partition("/")
    step = int(given) if slash else 1
    if not step:
        raise ValueError(f"the step of the {field.name} {text} is 0")
    if values in ("*", "?"):
        if step == 1 or field.stars:
            return "*" if step == 1 else f"*/{step}"
        return _listed(field.least, field.most, step)
    first, dash, last = values.partition("-")
    start = _value(field, first)
    end = _value(field, last) if dash else field.most if slash else start
    if start > end:
        raise ValueError(f"the {field.name} {text} ends before it begins")
    return _listed(start, end, step)


def _listed(start: int, end: int, step: int) -> str:
    return ",".join(map(str, range(start, end + 1, step)))


def _value(field: CronField, text: str) -> int:
    if text.isdecimal() and field.least <= int(text) <= field.most:
        return int(text)
    if text.lower() in field.words:
        return field.least + field.words.index(text.lower())
    names = f", or a name from {field.words[0]} to {field.words[-1]}" if field.words else ""
    raise ValueError(f"the {field.name} {text} is not a number from {field.least} to {field.most}{names}")
