"""Whether a copy is still current, and whether an answer continues it. Pure."""

import email.utils
import re

from multidict import CIMultiDict

from pantala_pieces.meta import Meta
from pantala_protocol.redaction import RedactedURL
from pantala_supernode import errors
from pantala_supernode.origin.source import Answer, Resume
from pantala_supernode.tasks.copy import FetchOrder

LONGEST = 24 * 3600.0
"""Seconds after which an origin must confirm a copy again, even if the origin declared a longer lifetime."""
_DIRECTIVE = re.compile(r'([a-z-]+)(?:\s*=\s*"?([0-9]{1,10})"?)?')
_DIRECTIVES = 8192
"""The most characters of Cache-Control that count. A hostile origin sends 30 times as many."""
_NEVER = frozenset({"no-cache", "no-store", "private"})


def lifetime(headers: CIMultiDict[str]) -> float | None:
    """For how many seconds an answer declares itself fresh (RFC 9111, 4.2). ``None``: the answer declares no time.

    The directives of all Cache-Control fields count together (RFC 9110, 5.3).
    """
    cache_control = ", ".join(headers.getall("Cache-Control", [])).lower()[:_DIRECTIVES]
    directives = {match[1]: match[2] for match in _DIRECTIVE.finditer(cache_control)}
    if _NEVER & directives.keys():
        return 0.0
    for name in ("s-maxage", "max-age"):  # the supernode is a shared cache
        if directives.get(name):
            return min(max(float(directives[name]) - _age(headers), 0.0), LONGEST)
    if "Expires" not in headers:
        return None
    try:
        answered = email.utils.parsedate_to_datetime(headers.get("Date", ""))
        expires = email.utils.parsedate_to_datetime(headers["Expires"])
        return min(max((expires - answered).total_seconds(), 0.0), LONGEST)
    except (ValueError, TypeError, OverflowError):
        return 0.0  # such as "Expires: 0"


def is_fresh(meta: Meta, order: FetchOrder, *, now: float, fresh_for: float) -> bool:
    """True if a whole copy may be used at ``now`` (seconds since the epoch) without asking its origin.

    One of three conditions is enough. The order has a digest. Or a Task resource of the order used the copy before. Or
    the origin confirmed the copy recently: within the declared lifetime, or else within ``fresh_for`` seconds if the
    content has a validator.
    """
    if order.source.digest or order.claims & frozenset(meta.claims):
        return True
    has_validator = meta.etag or meta.last_modified
    lasts = meta.lifetime if meta.lifetime is not None else fresh_for if has_validator else 0.0
    return 0.0 <= now - meta.confirmed < lasts


def same_content(answer: Answer, meta: Meta, *, pinned: bool = False) -> bool:
    """True if the answer has the content that ``meta`` describes: by ETag or Last-Modified, and by length.

    ``pinned``: the task has a digest, which is checked at the end. Then only the length counts, because the servers of
    one origin may send different validators.
    """
    if answer.unchanged:
        return True
    if answer.length is not None and meta.length is not None and answer.length != meta.length:
        return False
    if pinned:
        return True
    if meta.etag:
        return bool(meta.validator) and answer.etag == meta.etag
    return bool(meta.last_modified) and answer.last_modified == meta.last_modified


def check_other(answer: Answer, resume: Resume, meta: Meta, shown: RedactedURL, *, may_restart: bool) -> None:
    """Raise a :class:`SourceError` if the new content of an answer cannot replace the content of ``meta``.

    The reason is that the answer does not start at byte 0, or that ``may_restart`` is False.
    """
    if answer.offset > 0 and answer.validator and answer.validator == resume.validator:
        raise errors.LengthMismatchError.with_action(
            f"{shown} announced {meta.length} bytes before and {answer.length} now, with the same ETag or date"
        )
    if answer.offset > 0 or not may_restart:
        raise errors.SourceChangedError.with_action(f"The file at {shown} changed during the download")


def check_continues(answer: Answer, resume: Resume, meta: Meta, shown: RedactedURL, *, pinned: bool) -> None:
    """Raise a :class:`SourceError` unless the answer continues the content that ``meta`` describes."""
    if not same_content(answer, meta, pinned=pinned):
        raise errors.SourceChangedError.with_action(f"{shown} has new content")
    if answer.offset != resume.offset:
        raise errors.SourceRangeError.with_action(f"{shown} sent the whole file instead of the requested range")


def check_end_is_seen(answer: Answer, shown: RedactedURL, *, digest_known: bool) -> None:
    """Raise :class:`SourceUnusableError` if a cut body could not be distinguished from a complete body."""
    if answer.length is None and not answer.framed and not digest_known:
        raise errors.SourceUnusableError.with_action(
            f"{shown} declares neither the length nor the end of its body, and the task has no digest"
        )


def _age(headers: CIMultiDict[str]) -> float:
    text = headers.get("Age", "").strip()
    return float(text[:10]) if text.isascii() and text.isdigit() else 0.0
