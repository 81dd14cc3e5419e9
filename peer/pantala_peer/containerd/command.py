"""Commands for containerd's files: ``pantala-peer configure``, ``watch`` and ``cleanup``.

An init container of the peer's pod runs ``configure``, a container beside the peer runs ``watch``, and the uninstall
hook of the chart runs ``cleanup``.
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from pantala_peer.cache import uninstall
from pantala_peer.containerd import registry
from pantala_peer.containerd.configuration import (
    ConfigurationReport,
    Decide,
    TokenOwner,
    cleanup,
    configure,
    deciding,
    keep_token,
    views,
)
from pantala_peer.containerd.errors import FolderError
from pantala_peer.containerd.registry import ContainerdRegistry
from pantala_peer.containerd.watch import ConfigurationWatch, note_file
from pantala_peer.errors import PeerError
from pantala_pieces.errors import StoreError, store_errors
from pantala_process import lifecycle, logs, settings
from pantala_process.lifecycle import Stop
from pantala_process.settings import Flag, SettingsError
from pantala_protocol.rules.text import split_list


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
        print(f"pantala-peer: {error}. Then run this again.", file=sys.stderr)
        sys.exit(1)
    for note in report.notes:
        print(note, file=sys.stderr)
    print(f"containerd: {', '.join(report.changed) + ' changed' if report.changed else 'nothing to change'}")
    sys.exit(0 if report.finished else 1)


_CERTS_D = (Path("/etc/containerd/certs.d"), Path("/etc/docker/certs.d"))
"""The folders that containerd reads by default. Versions before 2.3 do not read the second folder."""
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
    file = _token_file(mirror_token_file, containerd_state)
    token = keep_token(file, mirror_token_owner)
    with store_errors(f"remove {note_file(file)}", "Check this path"):
        note_file(file).unlink(missing_ok=True)
    return configure(certs_d, containerd_state, _mirrored(registries), mirror, token, resolve=mirror_resolve)


def _watch(
    *,
    certs_d: Sequence[Path] = _CERTS_D,
    containerd_state: Path = _STATE,
    registries: str = "",
    mirror: str = "http://127.0.0.1:65001",
    mirror_resolve: bool = False,
    mirror_token_owner: TokenOwner | None = None,
    mirror_token_file: Path | None = None,
) -> NoReturn:
    """Repair the files until a signal arrives. The flags are those of ``configure``, so both write the same files."""
    del mirror_token_owner
    file, mirrored = _token_file(mirror_token_file, containerd_state), _mirrored(registries)
    deciding(mirrored, mirror, "token")  # an invalid mirror ends the command

    def decide() -> Decide:
        try:
            token = file.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not ASCII text"
            raise FolderError(
                f"cannot read the mirror's token in {file}: {why}. Write it with pantala-peer configure"
            ) from None
        return deciding(mirrored, mirror, token, resolve=mirror_resolve)

    async def life(stop: Stop) -> None:
        await lifecycle.until(stop.asked, ConfigurationWatch(views(certs_d, containerd_state), decide, file).run())

    logs.configure()
    lifecycle.run("pantala-peer watch", life, failures=(PeerError, OSError))


def _cleanup(
    *,
    certs_d: Sequence[Path] = _CERTS_D,
    containerd_state: Path = _STATE,
    mirror_token_file: Path | None = None,
    root: Path | None = None,
) -> ConfigurationReport:
    report = cleanup(certs_d, containerd_state)
    file = _token_file(mirror_token_file, containerd_state)
    if report.finished:
        with store_errors(f"remove {file}", "Check this path"):
            for path in (file, note_file(file), note_file(file).with_suffix(".new")):
                path.unlink(missing_ok=True)
    if root is not None:
        print(f"cached tasks removed: {uninstall.clear(root)}")
    return report


def _token_file(given: Path | None, state: Path) -> Path:
    return given or state.with_name("mirror-token")


def _mirrored(registries: str) -> list[ContainerdRegistry]:
    return [registry.parse_registry(name) for name in split_list(registries)]


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
    "mirror_resolve": Flag(settings.yes_or_no, "yes|no", "resolve tags at the mirror; also set the peer's flag (no)"),
    "mirror_token_owner": Flag(_owner, "UID:GID", "user and group of the peer (those of this command)"),
    "mirror_token_file": Flag(Path, "FILE", "the token that containerd sends to the mirror; created if missing"),
}
_CLEANUP_FLAGS = {
    "mirror_token_file": Flag(Path, "FILE", "the token of configure, which is removed"),
    "root": Flag(Path, "DIR", "root of an uninstalled peer: remove all files there except published files"),
}
_COMMANDS: dict[str, tuple[Callable[..., ConfigurationReport], dict[str, Flag], str]] = {
    "configure": (
        _configure,
        _FLAGS | _CONFIGURE_FLAGS,
        "Make containerd ask this node's mirror: change the files in --certs-d at once. `cleanup` restores them.",
    ),
    "watch": (_watch, _FLAGS | _CONFIGURE_FLAGS, "Restore the mirror's part when another program changes the files."),
    "cleanup": (
        _cleanup,
        _FLAGS | _CLEANUP_FLAGS,
        "Restore containerd's files at once, and remove the mirror's token.",
    ),
}


if __name__ == "__main__":
    main()
