"""Runs a real registry (Debian's docker-registry): open, with accounts or tokens, with or without TLS.

In a test::

    with Registry(tmp_path, accounts={"ann": "secret"}) as registry:
        ...  # push to and pull from registry.host
        assert registry.blob_bytes() == {"sha256:...": 1234}
"""

import ctypes
import ctypes.util
import json
import re
import secrets
import shutil
import socket
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from testbed.process import Process, free_ports
from testbed.tokens import TokenServer

_PROGRAM = "docker-registry"
_READY_SECONDS = 15.0
_ACCESS = re.compile(r'\S+ \S+ \S+ \[[^\]]*\] "([A-Z]+) (\S+) HTTP/[0-9.]+" ([0-9]{3}) ([0-9]+) ')
_BLOB = re.compile(r"/v2/.+/blobs/(sha256:[0-9a-f]{64})")
_SALT = string.ascii_letters + string.digits


class RegistryError(RuntimeError):
    """The registry does not start. The message says why."""


class RegistryAccess(NamedTuple):
    """One request that the registry answered."""

    method: str
    path: str
    status: int
    bytes: int
    """Bytes of body that were sent."""


def installed() -> bool:
    """True if this machine has the program."""
    return shutil.which(_PROGRAM) is not None


class Registry:
    """A registry that runs while its context is entered. Pushed images stay in ``folder`` for the next run.

    With ``tokens``, a running token server, it accepts tokens and no passwords. ``within`` is put before its command
    line, e.g. to run it in another network namespace.
    """

    def __init__(
        self,
        folder: Path,
        *,
        listen: str = "",
        accounts: Mapping[str, str] | None = None,
        tokens: TokenServer | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
        within: Sequence[str] = (),
    ) -> None:
        self._folder = folder
        self._within = within
        self._accounts = accounts or {}
        self._tokens = tokens
        self._tls = {"certificate": str(certificate), "key": str(key)} if certificate and key else {}
        self.host = listen or f"127.0.0.1:{free_ports(1)[0]}"
        """``address:port``, as in the names of images."""
        self.url = f"{'https' if self._tls else 'http'}://{self.host}"
        self._process: Process | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the registry and wait until it listens. Raises :class:`RegistryError`."""
        if not installed():
            raise RegistryError(f"{_PROGRAM} is not installed. Run apt-get install {_PROGRAM}.")
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / "registry.yaml"
        path.write_text(json.dumps(self._configuration()))  # JSON is YAML
        self._process = Process([*self._within, _PROGRAM, "serve", str(path)], self._log)
        host, _, port = self.host.rpartition(":")

        def listens() -> bool:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=1):
                return True

        if not self._process.becomes(listens, _READY_SECONDS):
            tail = self._process.tail()
            self.stop()
            raise RegistryError(f"{_PROGRAM} does not listen at {self.host}:\n{tail}")

    def stop(self) -> None:
        """Stop the registry, as in an outage. Pushed images stay for the next :meth:`start`."""
        if self._process is not None:
            self._process.stop(grace=1.0)
            self._process = None

    def requests(self) -> list[RegistryAccess]:
        """All answered requests since :meth:`forget`, ordered by the time they ended."""
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return [
            RegistryAccess(match[1], match[2].partition("?")[0], int(match[3]), int(match[4]))
            for match in map(_ACCESS.match, lines)
            if match is not None
        ]

    def blob_bytes(self) -> Counter[str]:
        """The bytes that the registry has sent of each blob, by digest."""
        sent: Counter[str] = Counter()
        for access in self.requests():
            match = _BLOB.fullmatch(access.path)
            if match is not None and access.method == "GET" and access.status in (200, 206):
                sent[match[1]] += access.bytes
        return sent

    def forget(self) -> None:
        """Empty the log."""
        if self._log.exists():
            self._log.write_text("")

    @property
    def _log(self) -> Path:
        return self._folder / "registry.log"

    def _configuration(self) -> dict[str, object]:
        storage = {"filesystem": {"rootdirectory": str(self._folder / "data")}, "delete": {"enabled": True}}
        http = {"addr": self.host, "tls": self._tls} if self._tls else {"addr": self.host}
        found: dict[str, object] = {"version": 0.1, "log": {"level": "warn"}, "storage": storage, "http": http}
        if self._accounts:
            path = self._folder / "htpasswd"
            lines = (f"{user}:{bcrypt(password)}\n" for user, password in self._accounts.items())
            path.write_text("".join(lines))
            found["auth"] = {"htpasswd": {"realm": "testbed", "path": str(path)}}
        if (tokens := self._tokens) is not None:
            stated = {"realm": tokens.realm, "service": tokens.service, "issuer": tokens.issuer}
            found["auth"] = {"token": {**stated, "rootcertbundle": str(tokens.bundle)}}
        return found


def bcrypt(password: str) -> str:
    """The bcrypt hash for a htpasswd file, with few rounds. The registry accepts no other kind of hash."""
    library = ctypes.CDLL(ctypes.util.find_library("crypt") or "libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    salt = "".join(secrets.choice(_SALT) for _ in range(21)) + "u"
    hashed: bytes | None = library.crypt(password.encode(), f"$2b$04${salt}".encode())
    if hashed is None or not hashed.startswith(b"$2b$"):
        raise RegistryError("This machine's libcrypt does not support bcrypt. Use Debian's libcrypt1.")
    return hashed.decode()
