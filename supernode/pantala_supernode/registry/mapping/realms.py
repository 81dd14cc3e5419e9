"""Which token servers may receive the passwords of a registry. Pure.

A registry names its token server in each challenge, as the challenge's *realm*. So a registry, or a proxy in front of
it, could have passwords sent to any server. Only the registry's own host, and known or listed hosts, get passwords.
"""

import re
from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

_ALIBABA = r"[a-z0-9-]+\.aliyuncs\.com"
_KNOWN: Final = tuple(
    (re.compile(registry), re.compile(realm))
    for registry, realm in (
        (r"registry-1\.docker\.io|registry\.hub\.docker\.com", r"auth\.docker\.io"),
        (r"registry\.gitlab\.com", r"gitlab\.com"),
        (r"registry\.digitalocean\.com", r"api\.digitalocean\.com"),
        (r"rg\.[a-z0-9-]+\.scw\.cloud", r"api\.scaleway\.com"),
        (rf"registry(-vpc|-internal)?\.{_ALIBABA}", rf"dockerauth(-vpc|-internal)?\.{_ALIBABA}"),
    )
)
"""Registries of large vendors whose token server has another host, and the host of the token server."""


_PORTS: Final = {"http": 80, "https": 443}


def is_trusted(realm: str, host: str, listed: Collection[str]) -> bool:
    """True if the URL ``realm`` may receive the passwords of the registry at ``host``, as ``host[:port]``.

    ``listed`` has further servers that an administrator trusts, as ``host`` for all ports or ``host:port`` for one. The
    port of the registry does not matter.
    """
    server, registry = urlsplit(realm).hostname or "", urlsplit(f"//{host}").hostname or ""
    if not server:
        return False
    if server == registry or any(_is_of(entry, realm) for entry in listed):
        return True
    return any(own.fullmatch(registry) and other.fullmatch(server) for own, other in _KNOWN)


def _is_of(entry: str, realm: str) -> bool:
    """True if a listed server is the server of a token URL."""
    listed, url = urlsplit(f"//{entry}"), urlsplit(realm)
    try:
        port = url.port or _PORTS.get(url.scheme)
    except ValueError:
        return False
    return listed.hostname == url.hostname and listed.port in (None, port)
