"""Reads the administrator's list of registries. Pure.

The list is comma-separated. An entry is one of:

* ``ghcr.io`` or ``https://ghcr.io``: a registry with TLS;
* ``http://registry.local:5000``: a registry without TLS;
* ``docker.io=https://harbor.corp/v2/dockerhub``: a registry, and the URL where it is reached. Further entries for the
  same registry are further endpoints, in the order to try them.

The path of such a URL replaces the usual ``/v2``, as with ``override_path`` in containerd's hosts.toml. A URL without a
path means ``/v2``.
"""

import contextlib
import re
from collections import defaultdict
from ipaddress import ip_address
from pathlib import Path

from yarl import URL

from pantala_protocol import image
from pantala_protocol.rules import sources
from pantala_protocol.rules.text import split_list
from pantala_supernode.registry.endpoint import RegistryEndpoint, RegistryEndpoints, RegistrySettings

_PATH = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?")
"""A path of a URL. No segment is empty or begins with a dot, so the path cannot contain ``..``."""
_ROOT = "/v2"
_SERVER = re.compile(r"(?P<host>\[[^]]*\]|[^:\[\]]*)(:(?P<port>[0-9]{1,5}))?")


def listed(registries: str, authorities: str, realms: str = "", *, only: bool) -> RegistryEndpoints:
    """Read the list ``registries``, the list ``authorities`` of entries ``HOST=FILE``, and the list ``realms``.

    A ``HOST`` is a registry's name, or the host of an endpoint. An entry of ``realms`` is ``REGISTRY=HOST``, with the
    host of a token server and perhaps its port. ``only`` forbids all registries that are not listed. Raises
    :class:`ValueError`.
    """
    plain: dict[str, bool] = {}
    mapped: dict[str, list[str]] = defaultdict(list)
    for text in split_list(registries):
        name, equals, url = text.partition("=")
        if equals:
            mapped[_registry(name)].append(_root(url, text))
        else:
            name, plain_http = _listed(text)
            plain[name] = plain_http
    files = dict(_authority(text) for text in split_list(authorities))
    names = plain.keys() | mapped.keys()
    hosts = {RegistryEndpoint(root).host for roots in mapped.values() for root in roots}
    names |= files.keys() - hosts
    trusted = _realms(realms)
    allowed = frozenset(names)
    settings = {}
    for name in names | trusted.keys():
        default = False if name in allowed else None
        settings[name] = _settings(plain.get(name, default), mapped.get(name, []), files, trusted.get(name, ()), name)
    if only and not allowed:
        raise ValueError("--registries-only allows only listed registries, but --registries is empty")
    found = RegistryEndpoints(settings, allowed if only else None)
    for host in found.listed:
        if _server(host) is None:
            raise ValueError(f"{host} is not a valid host. Give a host such as registry.corp:5000")
    return found


def _settings(
    plain_http: bool | None, roots: list[str], files: dict[str, Path], realms: tuple[str, ...], name: str
) -> RegistrySettings:
    if roots:
        endpoints = tuple(RegistryEndpoint(root, files.get(RegistryEndpoint(root).host), realms) for root in roots)
        for found in endpoints:
            _check_authority(found.host, found.ca, plain_http=found.plain_http)
        return RegistrySettings(plain_http=plain_http, endpoints=endpoints)
    _check_authority(name, files.get(name), plain_http=bool(plain_http))
    return RegistrySettings(plain_http, files.get(name), realms=realms)


def _realms(text: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for part in split_list(text):
        name, equals, host = part.partition("=")
        server = _server(host.strip().lower()) if equals else None
        if server is None:
            raise ValueError(
                f"{part[:200]!r} is not a valid token server of a registry. Use REGISTRY=HOST or REGISTRY=HOST:PORT."
            )
        found[_registry(name)] = (*found.get(_registry(name), ()), server)
    return found


def _server(text: str) -> str | None:
    """A token server as ``host[:port]``. An IPv6 address has brackets. ``None``: the text is not valid."""
    if text.count(":") > 1 and not text.startswith("["):
        text = f"[{text}]"
    match = _SERVER.fullmatch(text)
    if match is None or int(match["port"] or 1) not in range(1, 1 << 16):
        return None
    host = match["host"]
    if sources.is_host(host) and not host.startswith("*."):
        return text
    with contextlib.suppress(ValueError):
        ip_address(host.strip("[]"))
        return text
    return None


def _check_authority(host: str, ca: Path | None, *, plain_http: bool) -> None:
    if ca is not None and plain_http:
        raise ValueError(f"{host!r} has a certificate authority, but is listed as plain http. List it as https://.")


def _listed(text: str) -> tuple[str, bool]:
    scheme, mark, rest = text.rpartition("://")
    if scheme not in ("", "http", "https") or (mark and not scheme):
        raise ValueError(
            f"{text!r} is not a valid registry. Use a name, https://host:port, http://host:port, or name=URL."
        )
    return _registry(rest.rstrip("/")), scheme == "http"


def _root(url: str, entry: str) -> str:
    """Check the URL of an entry, and return it as :attr:`RegistryEndpoint.root`."""
    wrong = f"{entry[:200]!r} is not a valid mapping. Use name=https://host:port/path or name=http://host:port/path."
    try:
        found = URL(url.strip(), encoded=True)
        _ = found.port
    except ValueError:
        raise ValueError(wrong) from None
    authority = url.strip().partition("://")[2].partition("/")[0]
    if found.scheme not in ("http", "https") or not _PATH.fullmatch(found.raw_path) or found.query_string:
        raise ValueError(wrong)
    if found.fragment or url.strip().endswith(("?", "#")):
        raise ValueError(wrong)
    return f"{found.scheme}://{_registry(authority)}{found.raw_path.rstrip('/') or _ROOT}"


def _authority(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals or not path:
        raise ValueError(f"{text!r} is not a valid certificate authority. Use HOST=FILE.")
    return _registry(name), Path(path)


def _registry(text: str) -> str:
    image.check_registry(text.strip())
    return text.strip().lower()
