"""The URL of one request, and the URL that a redirect leads to. Pure.

RFC 9110 (15.4) leaves the rules for redirects to the client. Pantala's rules: a redirect within one origin keeps the
credentials. A redirect from http to https of the same host at the default ports keeps them too. Any other redirect
drops them, also for later redirects. A redirect from https to http is refused.
"""

import re
from dataclasses import dataclass
from typing import Self

from yarl import URL

from pantala_supernode.outbound.errors import Fault, OutboundError

_SCHEMES = frozenset({"http", "https"})
_LEGAL = re.compile(rb"%[0-9A-Fa-f]{2}|[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]+")
_NAME = re.compile(r"(?!-)[A-Za-z0-9._~-]+")
"""A host name. libcurl would decode other characters, and could then reach a host that was not checked.

In a list of addresses for libcurl, a name with a hyphen at its start removes another entry.
"""
_AUTHORITY = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*:)?//([^/?#]*)")


@dataclass(frozen=True, slots=True)
class RequestTarget:
    """An http or https URL without user, password and fragment. Bytes that a URL cannot contain are percent-encoded."""

    url: URL

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a URL as a user wrote it. Raises :class:`OutboundError` if it is not an http or https URL."""
        try:
            return cls(
                _checked(URL(_encoded(_with_ascii_host(text).encode()), encoded=True), Fault.URL, scheme=Fault.URL)
            )
        except ValueError:
            raise OutboundError(Fault.URL) from None

    def __str__(self) -> str:
        return str(self.url)

    @property
    def host(self) -> str:
        """The host in lower case: a name, or an address without brackets."""
        return (self.url.raw_host or "").lower()

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port. Connections and credentials belong to one origin."""
        return self.url.scheme, self.host, self.url.port or 0

    def redirected(self, location: str) -> Self:
        """The target of a ``Location`` field, whose bytes are read as latin-1.

        Raises :class:`OutboundError` for an invalid URL, for another scheme and for a step down from https.
        """
        try:
            url = self.url.join(URL(_encoded(_located(location)), encoded=True))
            target = type(self)(_checked(url, Fault.REDIRECT, scheme=Fault.REDIRECT_SCHEME))
        except ValueError:
            raise OutboundError(Fault.REDIRECT) from None
        if (self.url.scheme, target.url.scheme) == ("https", "http"):
            raise OutboundError(Fault.DOWNGRADE)
        return target

    def may_show_credentials(self, to: Self) -> bool:
        """True if a redirect from this target to ``to`` keeps ``Authorization`` and all other credentials."""
        if self.origin == to.origin:
            return True
        return (*self.origin, *to.origin) == ("http", self.host, 80, "https", self.host, 443)


def _checked(url: URL, fault: Fault, *, scheme: Fault) -> URL:
    if url.scheme not in _SCHEMES:
        raise OutboundError(scheme)
    if not url.raw_host or url.user is not None or url.password is not None:
        raise OutboundError(fault)
    if ":" not in url.raw_host and not _NAME.fullmatch(url.raw_host):
        raise OutboundError(fault)
    if not url.port:  # yarl reads the port only on demand, and raises ValueError above 65535
        raise OutboundError(fault)
    if not url.raw_path:
        url = url.with_path("/")
    return url.with_fragment(None)


def _located(location: str) -> bytes:
    """The bytes of a ``Location`` field. Some servers write an international host name in UTF-8."""
    written = location.strip().encode("latin-1")
    try:
        text = written.decode()
    except UnicodeDecodeError:
        return written
    return _with_ascii_host(text).encode()


def _encoded(text: bytes) -> str:
    """Percent-encode each byte that a URL cannot contain (RFC 3986, 2). Encoded bytes stay as they are."""
    found, position = [], 0
    while position < len(text):
        legal = _LEGAL.match(text, position)
        found.append(legal[0].decode("ascii") if legal else f"%{text[position]:02X}")
        position = legal.end() if legal else position + 1
    return "".join(found)


def _with_ascii_host(text: str) -> str:
    """The URL with an international host name in its ASCII form (RFC 5890)."""
    authority = _AUTHORITY.match(text)
    if authority is None or authority[2].isascii():
        return text
    start, end = authority.span(2)
    return text[:start] + URL(f"//{authority[2]}").raw_authority + text[end:]
