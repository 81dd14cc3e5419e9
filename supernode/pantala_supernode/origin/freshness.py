"""How long a copy may be taken for what the origin has, without asking it. Pure."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Mapping

from pantala_pieces.file import Meta
from pantala_supernode.tasks.copy import FetchOrder

LONGEST = 24 * 3600.0
"""Seconds after which an origin is asked again, whatever it promised."""
_DIRECTIVE = re.compile(r'([a-z-]+)(?:\s*=\s*"?([0-9]{1,10})"?)?')
_NEVER = frozenset({"no-cache", "no-store", "private"})


def lifetime(headers: Mapping[str, str]) -> float | None:
    """Seconds for which an answer says of itself that it holds (RFC 9111, 4.2); ``None``: it does not say."""
    said = {match[1]: match[2] for match in _DIRECTIVE.finditer(headers.get("Cache-Control", "").lower())}
    if _NEVER & said.keys():
        return 0.0
    for name in ("s-maxage", "max-age"):  # this is a shared cache
        if said.get(name):
            return min(max(float(said[name]) - _age(headers), 0.0), LONGEST)
    if "Expires" not in headers:
        return None
    try:
        answered = email.utils.parsedate_to_datetime(headers.get("Date", ""))
        expires = email.utils.parsedate_to_datetime(headers["Expires"])
        return min(max((expires - answered).total_seconds(), 0.0), LONGEST)
    except (ValueError, TypeError):
        return 0.0  # "Expires: 0" and its like


def is_sure(meta: Meta, order: FetchOrder, *, now: float, fresh_for: float) -> bool:
    """Whether the whole copy can be used as it is, at ``now`` (seconds since the epoch).

    That is so if a digest says which content is meant, if one who wants it had it all the time, or if the origin gave
    or confirmed it lately: within the time that it said, else within ``fresh_for`` seconds if it can be asked at all.
    """
    if order.source.digest or order.claims & frozenset(meta.claims):
        return True
    can_be_asked = meta.etag or meta.last_modified
    lasts = meta.lifetime if meta.lifetime is not None else fresh_for if can_be_asked else 0.0
    return 0.0 <= now - meta.confirmed < lasts


def _age(headers: Mapping[str, str]) -> float:
    text = headers.get("Age", "").strip()
    return float(text[:10]) if text.isascii() and text.isdigit() else 0.0
