"""Text from users, and failures and names that peers, registries, origins and replicas report.

A message cleans its texts when it is created or decoded, so they are lines of bounded size from then on. Otherwise a
long text could make the API server refuse a whole status, and a line break could forge a line of a log.
"""

import re
from typing import Final

import msgspec

MESSAGE: Final = 2048
"""The most bytes of a message, in UTF-8. A condition's message may have 32768 characters, and has several parts."""
LABEL: Final = 64
"""The most bytes of a version or a similar label."""
NAME: Final = 253
"""The most bytes of a name."""

_CLIPPED = "…"
_REASON_FIELD = "reason"
_REASON = re.compile(r"[A-Z][A-Za-z0-9]{0,62}")


def clean(text: str, most: int = MESSAGE) -> str:
    """``text`` in one line of at most ``most`` bytes (at least 3) in UTF-8. Never raises.

    A character that is not printable becomes a blank, because it may end a line, hide, or change the direction of text.
    """
    if len(text) <= most and text.isascii() and text.isprintable():
        return text
    plain = text[: most + 1]
    if not plain.isprintable():
        plain = "".join(each if each.isprintable() else " " for each in plain)
    data = plain.encode()
    if len(data) <= most and len(plain) == len(text):
        return plain
    return data[: max(0, most - len(_CLIPPED.encode()))].decode(errors="ignore").rstrip() + _CLIPPED


def split_list(text: str, separator: str = ",") -> tuple[str, ...]:
    """The parts of a list, without the blanks around them and without empty parts."""
    return tuple(filter(None, map(str.strip, text.split(separator))))


def reason(word: str, otherwise: str) -> str:
    """Return ``word`` if it is in CamelCase, as conditions need it, or empty. Otherwise return ``otherwise``."""
    return word if not word or _REASON.fullmatch(word) else otherwise


def clean_fields(struct: msgspec.Struct, /, **limits: int) -> None:
    """Clean text fields of a new message. ``limits``: the most bytes of each."""
    for name, most in limits.items():
        value = getattr(struct, name)
        cleaned = clean(value, most)
        if cleaned is not value:
            msgspec.structs.force_setattr(struct, name, cleaned)


def clean_failure(struct: msgspec.Struct, /, otherwise: str = "Failed", *, always: bool = False) -> None:
    """Clean the fields ``reason`` and ``message`` of a new message. ``always``: the reason must not be empty."""
    clean_fields(struct, message=MESSAGE)
    given = getattr(struct, _REASON_FIELD)
    known = otherwise if always and not given else reason(given, otherwise)
    if known is not given:
        msgspec.structs.force_setattr(struct, _REASON_FIELD, known)
