"""``pantala-peer configure`` for an init container, and ``pantala-peer cleanup`` for the hook at uninstall."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pantala_peer.cache import uninstall
from pantala_peer.containerd import registry
from pantala_peer.containerd.configuration import ConfigurationReport, TokenOwner, cleanup, configure, keep_token
from pantala_peer.errors import PeerError
from pantala_pieces.errors import StoreError
from pantala_process import settings
from pantala_process.settings import Flag, SettingsError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command. Exit code 0; 1 for a failure; 2 for invalid flags."""
    command, *rest = sys.argv[1:] if arguments is None else arguments
    run, flags, description = _COMMANDS[command]
    try:
        report = run(
            **settings.parse(flags, rest, os.environ, program=f"pantala-peer {command}", description=description)
        )
    except SettingsError as error:
        print(f"pantala-peer: {error}", file=sys.stderr)
        sys.exit(2)
    except (PeerError, StoreError) as error:
        print(f"pantala-peer: {error}", file=sys.stderr)
        sys.exit(1)
    for note in report.notes:
        print(note, file=sys.stderr)
    print(f"containerd: {', '.join(report.changed) + ' changed' if report.changed else 'nothing to change'}")
    sys.exit(0 if report.finished else 1)


_CERTS_D = (Path("/etc/containerd/certs.d"), Path("/etc/docker/certs.d"))
"""The folders that containerd reads by default; it reads the second one since version 2.3."""
_STATE = Path("/var/lib/pantala/containerd")


def _configure(
    *,
    certs_d: Sequence[Path] = _CERTS_D,
    containerd_state: Path = _STATE,
    registries: str = "",
    mirror: str = "http://127.0.0.1:65001",
    mirror_resolve: bool = False,
    mirror_token_owner: TokenOwner | None = None,
    mirror_token_file: Path | None = None,
) -> ConfigurationReport:
    token = keep_token(mirror_token_file or containerd_state.with_name("mirror-token"), mirror_token_owner)
    names = [name for name in map(str.strip, registries.split(",")) if name]
    mirrored = [registry.parse_registry(name) for name in names]
    return configure(certs_d, containerd_state, mirrored, mirror, token, resolve=mirror_resolve)


def _cleanup(
    *, certs_d: Sequence[Path] = _CERTS_D, containerd_state: Path = _STATE, root: Path | None = None
) -> ConfigurationReport:
    report = cleanup(certs_d, containerd_state)
    if root is not None:
        print(f"cached tasks removed: {uninstall.clear(root)}")
    return report


def _owner(text: str) -> TokenOwner:
    user, _, group = text.partition(":")
    if not all(part.isascii() and part.isdigit() and len(part) <= 10 for part in (user, group)):
        raise ValueError("is not UID:GID. Give numbers like 65532:65532.")
    return TokenOwner(int(user), int(group))


def _folders(text: str) -> list[Path]:
    folders = [Path(folder) for folder in text.split(":") if folder]
    if not folders or not all(folder.is_absolute() for folder in folders):
        raise ValueError("is not a list of absolute paths. Copy containerd's config_path.")
    return folders


_FLAGS = {
    "certs_d": Flag(_folders, "DIR[:DIR]", "the folders in containerd's config_path (containerd's own default)"),
    "containerd_state": Flag(Path, "DIR", "where to keep the record for cleanup (/var/lib/pantala/containerd)"),
}
_CONFIGURE_FLAGS = {
    "registries": Flag(str, "LIST", "comma-separated names or URLs of registries that need their own folder"),
    "mirror": Flag(str, "URL", "the mirror on this node (http://127.0.0.1:65001)"),
    "mirror_resolve": Flag(settings.yes_or_no, "yes|no", "resolve tags at the mirror; set the peer's flag, too (no)"),
    "mirror_token_owner": Flag(_owner, "UID:GID", "user and group of the peer, if not those of this command"),
    "mirror_token_file": Flag(Path, "FILE", "the token that containerd sends to the mirror; created if missing"),
}
_CLEANUP_FLAGS = {
    "root": Flag(Path, "DIR", "root of an uninstalled peer: remove everything there but published files"),
}
_COMMANDS: dict[str, tuple[Callable[..., ConfigurationReport], dict[str, Flag], str]] = {
    "configure": (_configure, _FLAGS | _CONFIGURE_FLAGS, "Make this node's containerd ask the mirror."),
    "cleanup": (_cleanup, _FLAGS | _CLEANUP_FLAGS, "Restore containerd's files."),
}


if __name__ == "__main__":
    main()
