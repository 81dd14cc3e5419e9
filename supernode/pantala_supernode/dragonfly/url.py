"""Encodes URLs as users type them into URLs that the supernode can send. Pure."""

import re
from urllib.parse import quote, urlsplit

from pantala_protocol.rules.names import MAX_URL

_PARTS = re.compile(r"(https?)://([^/?#\\]+)([^\x00-\x1f\x7f]*)", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(r"[!-~\u00a0-\U0010ffff]+")
_AS_THEY_ARE = "".join(map(chr, range(0x21, 0x7F)))
"""The printable characters of ASCII. They are not encoded, so encoded characters are not encoded twice."""


def encoded(text: str) -> str:
    """A URL without blanks and with ASCII characters only. Raises :class:`ValueError` unless it is an http(s) URL.

    Dragonfly's clients send a URL as the user typed it. Its path may contain Chinese characters or blanks, which the
    origin expects in encoded form, such as ``%20``.
    """
    match = _PARTS.fullmatch(text[: MAX_URL + 1])  # an endless international host would take a second
    if match is None or _AUTHORITY.fullmatch(match[2]) is None:
        raise ValueError("it must begin with http:// or https://, name a host and have no control character")
    scheme, authority, rest = match.groups()
    url = f"{scheme}://{_host(authority)}{quote(rest, safe=_AS_THEY_ARE)}"
    if len(url) > MAX_URL:
        raise ValueError(f"it must have at most {MAX_URL} characters")
    return url


def _host(authority: str) -> str:
    """Host and port, in the spelling of DNS. Raises :class:`ValueError`."""
    read = urlsplit(f"//{authority}")
    if not read.hostname or read.port == 0:
        raise ValueError("it must name a host. A port must be from 1 to 65535")
    return authority if authority.isascii() else authority.encode("idna").decode()
