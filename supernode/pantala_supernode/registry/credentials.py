"""Accounts at registries, found in pull secrets by the kubelet's rules. Their secrets are never logged or stored.

Basic authentication sends user and password in base64, so they may have any bytes. Here they are decoded as UTF-8, with
surrogates for bytes that are not UTF-8. A token is sent in a header unchanged, so it must be one line of ASCII.
"""

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Self

import msgspec

from pantala_protocol.image import DOCKER_HUB, DOCKER_HUB_ALIAS
from pantala_protocol.rules import foreign

_MAX_CONFIG = 1024 * 1024
"""The largest accepted text in bytes, which is the limit of a Kubernetes Secret."""
_MOST_ENTRIES = 2048
"""The most entries of all pull secrets of an image. More would hold up the event loop each time they are searched."""
_MOST_BYTES = 32 * 1024
"""The most characters of one entry. Some have the password twice, and servers accept some KiB in a header."""
_MAX_HOST = 259
"""The most characters of a host name with its port."""
_IDENTITY_USER = "<token>"
"""The user name that Docker sets if the password is an identity token."""
_ANY_BYTE: Final = "surrogateescape"
_LINE_END = re.compile(r"[\r\n]")
"""Line ends in base64. Many programs write them, and the kubelet accepts them."""
_SCHEME = re.compile(r"^https?://")
_API_PATH = re.compile(r"^/v[12](?=/)")


@dataclass(frozen=True, slots=True, repr=False)
class RegistryAccount:
    """One account at a registry. If all fields are empty, the account is anonymous."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    """A token that the registry's token server exchanges for a bearer token."""
    registry_token: str = ""
    """A bearer token that the registry accepts directly."""
    pod_identity: bool = False
    """True if the account stands for the supernode's cloud identity, see :mod:`pantala_supernode.registry.clouds`."""
    only_host: str = ""
    """The only host that may receive the credentials. Empty: any token server that the registry names."""

    def __repr__(self) -> str:
        return "<Credentials>" if self else "<no Credentials>"

    def __bool__(self) -> bool:
        return bool(self.username or self.password or self.identity_token or self.registry_token or self.pod_identity)

    @property
    def basic(self) -> str:
        """The Basic ``Authorization`` header with user and password. Empty without a password."""
        return _basic(self.username, self.password) if self.password else ""

    @property
    def authorization(self) -> str:
        """The account as an ``Authorization`` header that :meth:`read` can read. Empty: the account is anonymous."""
        if self.registry_token:
            return f"Bearer {self.registry_token}"
        if self.identity_token:
            return _basic(_IDENTITY_USER, self.identity_token)
        return self.basic

    @classmethod
    def read(cls, authorization: str) -> Self:
        """Read an ``Authorization`` header. Raises :class:`ValueError`, which does not quote the header."""
        scheme, _, value = authorization.strip().partition(" ")
        match scheme.lower():
            case "":
                return cls()
            case "bearer":
                return cls(registry_token=_token(value.strip()))
            case "basic":
                return cls.decode(value.strip())
        raise ValueError("the Authorization header is not Basic or Bearer")

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read ``base64(user:password)``, with or without padding and line ends. Raises :class:`ValueError`."""
        try:
            text = _LINE_END.sub("", text).rstrip("=")
            decoded = base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode(errors=_ANY_BYTE)
        except (binascii.Error, ValueError):
            raise ValueError("the credentials are not valid base64 of user:password") from None
        username, colon, password = decoded.partition(":")
        if not colon:
            raise ValueError("the credentials are not valid base64 of user:password")
        if username == _IDENTITY_USER:
            return cls(identity_token=_token(password))
        return cls(username, password)


ANONYMOUS: Final = RegistryAccount()
POD_IDENTITY: Final = RegistryAccount(pod_identity=True)


class _Entry(msgspec.Struct):
    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""
    registrytoken: str = ""


class _Config(msgspec.Struct):
    auths: dict[str, _Entry] = {}


class Keyring:
    """The accounts from a set of pull secrets. Its ``repr`` shows no secret."""

    def __init__(self, entries: Iterable[tuple[str, RegistryAccount]] = ()) -> None:
        self._entries: dict[str, list[RegistryAccount]] = {}
        for location, credentials in entries:
            self._entries.setdefault(_key(location), []).append(credentials)

    def __repr__(self) -> str:
        return f"<Keyring of {len(self._entries)} locations>"

    @classmethod
    def read(cls, *configs: bytes | str) -> Self:
        """Read ``.dockerconfigjson`` texts. The accounts of earlier texts come first.

        Raises :class:`ValueError` without quoting a secret.
        """
        entries: list[tuple[str, RegistryAccount]] = []
        for config in configs:
            if len(config) > _MAX_CONFIG:
                raise ValueError(f"the pull secret has more than {_MAX_CONFIG} bytes")
            try:
                auths = foreign.read(config.encode() if isinstance(config, str) else config, _Config).auths
            except ValueError:
                raise ValueError(
                    "the pull secret is not a valid Docker configuration (JSON with 'auths'); "
                    "create it with kubectl create secret docker-registry"
                ) from None
            if len(entries) + len(auths) > _MOST_ENTRIES:
                raise ValueError(f"the pull secrets have more than {_MOST_ENTRIES} entries; remove some of them")
            entries.extend((location, _credentials(location, entry)) for location, entry in auths.items())
        return cls(entries)

    def find(self, name: str) -> tuple[RegistryAccount, ...]:
        """The accounts for ``registry/repository``, in the order to try them.

        The rules are the kubelet's: an entry fits if its key is a prefix of the name, and the longest key comes first.
        ``*`` matches one label of a host name. Entries for Docker Hub's old address count only if no other entry fits.
        """
        found: list[RegistryAccount] = []
        for key in sorted(self._entries, reverse=True):
            if _fits(key, name):
                found += self._entries[key]
        if not found and name.partition("/")[0] in (DOCKER_HUB, DOCKER_HUB_ALIAS):
            found = self._entries.get(DOCKER_HUB_ALIAS, [])
        return tuple(dict.fromkeys(found))


def _credentials(location: str, entry: _Entry) -> RegistryAccount:
    """Read one entry. ``auth`` takes precedence over user and password."""
    try:
        return _account(entry)
    except ValueError as error:
        raise ValueError(f"the pull secret's entry for {location[:100]!r}: {error}") from None


def _account(entry: _Entry) -> RegistryAccount:
    if sum(map(len, msgspec.structs.astuple(entry))) > _MOST_BYTES:
        raise ValueError(f"it has more than {_MOST_BYTES} characters, and no registry accepts so many")
    if entry.registrytoken:
        return RegistryAccount(registry_token=_token(entry.registrytoken))
    if entry.identitytoken:
        return RegistryAccount(identity_token=_token(entry.identitytoken))
    if entry.auth:
        return RegistryAccount.decode(entry.auth.strip())
    return RegistryAccount(entry.username, entry.password)


def _key(location: str) -> str:
    """The key of an entry without scheme, API version and slash at the end, as ``registry/path``."""
    host, slash, path = _SCHEME.sub("", location.strip()).partition("/")
    path = _API_PATH.sub("", slash + path)
    return host if path in ("", "/") else host + path


def _fits(key: str, name: str) -> bool:
    """True if the entry ``key`` applies to ``name``: same port, matching host labels, and its path is a prefix."""
    (host, _, path), (wanted, _, rest) = key.partition("/"), name.partition("/")
    if len(host) > _MAX_HOST or not rest.startswith(path):
        return False
    if host == wanted:
        return True
    if "[" in host:  # an IPv6 address, not a pattern
        return False
    (labels, _, port), (parts, _, wanted_port) = host.partition(":"), wanted.partition(":")
    patterns, given = labels.split("."), parts.split(".")
    if port != wanted_port or len(patterns) != len(given):
        return False
    return all(fnmatchcase(part, pattern) for part, pattern in zip(given, patterns, strict=True))


def _basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode(errors=_ANY_BYTE)).decode()


def _token(text: str) -> str:
    """Return ``text`` if it is one line of ASCII. Raises :class:`ValueError` without quoting it."""
    if not (text.isascii() and text.isprintable()):
        raise ValueError("the token in the credentials is not one line of ASCII; check for a line break at the end")
    return text
