"""``pantala-peer configure`` and ``pantala-peer cleanup``: what an init container and the hook at uninstall run."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pantala_peer.cache import uninstall
from pantala_peer.containerd import registry
from pantala_peer.containerd.configuration import Owner, Report, cleanup, configure, keep_token
from pantala_peer.errors import PeerError
from pantala_pieces.errors import StoreError
from pantala_process.settings import SettingsError

_FLAGS = (
    ("certs-d", "DIR[:DIR]", "what containerd's config_path names", "/etc/containerd/certs.d:/etc/docker/certs.d"),
    ("containerd-state", "DIR", "where is kept what has to be put back", "/var/lib/pantala/containerd"),
)
_CLEANUP_FLAGS = (
    ("root", "DIR", "of a peer that does not come back: all there but published files is removed, too", ""),
)
_CONFIGURE_FLAGS = (
    ("registries", "LIST", "names or URLs, comma-separated, of registries to mirror beside the default", ""),
    ("mirror", "URL", "the mirror on this node", "http://127.0.0.1:65001"),
    ("mirror-resolve", "yes|no", "whether it is asked what tags mean, too, as the peer's own flag says", "no"),
    ("mirror-token-owner", "UID:GID", "who runs the peer, and so may read the token, if not who runs this", ""),
    ("mirror-token-file", "FILE", "the token that containerd shows to the mirror; made if it is missing", ""),
)


def add_commands(commands: argparse._SubParsersAction[Any], environment: Mapping[str, str]) -> None:
    """Mount the two below another parser; each sets ``run``, to be called with the parsed arguments.

    ``--foo-bar`` mirrors ``PANTALA_FOO_BAR``.
    """
    for name, text, flags, run in (
        ("configure", "tell this node's containerd of the mirror", _FLAGS + _CONFIGURE_FLAGS, _configure),
        ("cleanup", "put containerd's files back as they were", _FLAGS + _CLEANUP_FLAGS, _cleanup),
    ):
        parser = commands.add_parser(name, help=text, description=text)
        parser.set_defaults(run=run)
        for flag, shown, about, default in flags:
            value = environment.get("PANTALA_" + flag.upper().replace("-", "_"), "") or default
            parser.add_argument(f"--{flag}", metavar=shown, help=f"{about} ({default or 'none'})", default=value)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the two. Exit code 0; 1 if something could not be done; 2 for wrong flags."""
    parser = argparse.ArgumentParser(prog="pantala-peer")
    add_commands(parser.add_subparsers(required=True), os.environ)
    given = parser.parse_args(arguments)
    try:
        report: Report = given.run(given)
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


def _configure(given: argparse.Namespace) -> Report:
    if given.mirror_resolve not in ("yes", "no"):
        raise SettingsError(f"--mirror-resolve is neither yes nor no: {given.mirror_resolve!r}")
    state = Path(given.containerd_state)
    file = Path(given.mirror_token_file) if given.mirror_token_file else state.with_name("mirror-token")
    token = keep_token(file, _owner(given.mirror_token_owner))
    names = [name for name in map(str.strip, given.registries.split(",")) if name]
    registries = [registry.parse(name) for name in names]
    return configure(_folders(given), state, registries, given.mirror, token, resolve=given.mirror_resolve == "yes")


def _cleanup(given: argparse.Namespace) -> Report:
    report = cleanup(_folders(given), Path(given.containerd_state))
    if given.root:
        print(f"cached tasks removed: {uninstall.clear(Path(given.root))}")
    return report


def _owner(text: str) -> Owner | None:
    if not text:
        return None
    user, _, group = text.partition(":")
    if not all(part.isascii() and part.isdigit() and len(part) <= 10 for part in (user, group)):
        raise SettingsError(f"--mirror-token-owner: {text!r} is not UID:GID; give numbers like 65532:65532")
    return Owner(int(user), int(group))


def _folders(given: argparse.Namespace) -> list[Path]:
    """As containerd lists them: its own default since 2.3 has two."""
    folders = [Path(folder) for folder in str(given.certs_d).split(":") if folder]
    if not folders or not all(folder.is_absolute() for folder in folders):
        raise SettingsError(f"--certs-d: {given.certs_d!r} is no list of absolute paths; give what config_path names")
    return folders


if __name__ == "__main__":
    main()
