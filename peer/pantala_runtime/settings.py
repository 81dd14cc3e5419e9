"""The settings of the runtime helper."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pantala_process import settings
from pantala_process.settings import flag


def _runtime(text: str) -> str:
    return f"unix://{settings.unix_socket(text)}"


@dataclass(frozen=True, slots=True)
class Settings:
    """One helper's settings."""

    runtime: str = flag(
        _runtime,
        "unix:///PATH",
        "the container runtime's socket (/run/containerd/containerd.sock)",
        default="unix:///run/containerd/containerd.sock",
    )
    """In a container, mount the socket's directory: each start of the runtime makes a new socket."""
    listen: Path = flag(
        settings.unix_socket,
        "unix:/PATH",
        "the helper's socket, which only the helper's user can open (/run/pantala/runtime.sock)",
        default=Path("/run/pantala/runtime.sock"),
    )
    image_filesystem: Path | None = flag(
        Path, "DIR", "a directory on the filesystem of the images (default: the runtime's)", default=None
    )
    content: Path | None = flag(
        Path, "DIR", "the runtime's content store, to check which blobs it has (default: none)", default=None
    )
    """The directory with ``blobs/sha256``. The helper only reads it."""
    log_level: int = settings.log_level_flag()
    grace: float = 5.0
    """Seconds in which answers may end after SIGTERM. Pulls are cancelled, and the peer requests them again."""


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Read flags and environment. Raises :class:`pantala_process.settings.SettingsError`."""
    values = settings.parse(
        settings.flags(Settings),
        arguments,
        environment,
        program="pantala-runtime",
        description="Pulls images into this node's container runtime for pantala-peer.",
    )
    return Settings(**values)
