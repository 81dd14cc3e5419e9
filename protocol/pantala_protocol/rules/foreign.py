"""Reads JSON that other programs write: pull secrets, token answers, manifests. A member that is null counts as absent.

Programs in Go write ``null`` for an empty list or map, and either omit an optional member or write ``null``. A ``null``
inside a list stays, because removing an element would change the list.
"""

from typing import TypeVar

import msgspec

_T = TypeVar("_T")

_MOST = 128 * 1024
"""The most bytes of a document whose nulls are removed. A larger document would hold up the event loop for seconds."""


def read(body: bytes, kind: type[_T]) -> _T:
    """Decode ``body``. Raises :class:`ValueError` without quoting ``body``, because it may contain secrets.

    In a document of more than 128 KiB, a null is valid only where ``kind`` allows it, and in unknown members.
    """
    try:
        try:
            return msgspec.json.decode(body, type=kind)  # usually enough, because only unknown members are null
        except msgspec.ValidationError:
            if b"null" not in body or len(body) > _MOST:
                raise
            return msgspec.convert(drop_nulls(msgspec.json.decode(body)), kind)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise ValueError("the JSON is not valid, or a member has a wrong type") from None


def drop_nulls(value: _T) -> _T:
    """Remove all members that are null from a decoded ``value``, at any depth and in place. Returns ``value``.

    A copy would double the memory that a hostile document takes. Raises :class:`RecursionError` for a deep document.
    """
    if isinstance(value, dict):
        for name in [name for name, member in value.items() if member is None]:
            del value[name]
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        if isinstance(inner, dict | list):
            drop_nulls(inner)
    return value
