"""What the runtime helper is told when it starts: flags, or the environment variables that mirror them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from pantala_protocol import __version__
from pantala_runtime.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Settings:
    """One helper's settings."""

    runtime: str = "unix:///run/containerd/containerd.sock"
    """The container runtime's socket. Mount its directory: each start of the runtime makes a new socket."""
    listen: Path = Path("/run/pantala/runtime.sock")
    """Our own socket, for the user we run as alone."""
    image_filesystem: Path | None = None
    """A directory on the filesystem that images are on, as it is seen here. None: where the runtime says."""
    content: Path | None = None
    """The runtime's content store, read only: ``blobs/sha256`` is below it. None: blobs are not looked for."""
    grace: float = 5.0
    """Seconds that answers get to end after SIGTERM. Pulls do not end by then: they are asked for again."""


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Read flags and, where they are not given, the environment: ``--foo-bar`` mirrors ``PANTALA_FOO_BAR``.

    Raises :class:`SettingsError` with one line that says what to do; ``--help`` and ``--version`` raise SystemExit.
    """
    given = vars(_parser().parse_args(arguments))
    values = {name: flag or environment.get("PANTALA_" + name.upper(), "") for name, flag in given.items()}
    usual = Settings()
    measured = values["image_filesystem"]
    return Settings(
        runtime=f"unix://{_socket('runtime', values['runtime'])}" if values["runtime"] else usual.runtime,
        listen=_socket("listen", values["listen"]) if values["listen"] else usual.listen,
        image_filesystem=Path(measured) if measured else None,
        content=Path(values["content"]) if values["content"] else None,
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="pantala-runtime", description="Pulls images into this node's container runtime for pantala-peer."
    )
    parser.add_argument("--version", action="version", version=__version__)
    for flag, shown, text in (
        ("runtime", "unix:///PATH", "the container runtime's socket (/run/containerd/containerd.sock)"),
        ("listen", "unix:/PATH", "our own socket (/run/pantala/runtime.sock)"),
        ("content", "DIR", "the runtime's content store, to see which blobs it has"),
        ("image-filesystem", "DIR", "a directory on the filesystem that images are on"),
    ):
        parser.add_argument(f"--{flag}", metavar=shown, help=text)
    return parser


def _socket(flag: str, text: str) -> Path:
    scheme, colon, path = text.partition(":")
    path = "/" + path.lstrip("/") if path.startswith("/") else path
    if not colon or scheme != "unix" or not path.startswith("/") or path == "/" or len(path.encode()) > 107:
        raise SettingsError(f"--{flag} is no unix socket: {text!r}; give one like unix:/run/pantala/runtime.sock")
    return Path(path)
