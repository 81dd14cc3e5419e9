"""``pantala-peer configure`` for an init container, and ``pantala-peer cleanup`` for the hook at uninstall."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pantala_peer.cache import uninstall
from pantala_peer.containerd import registry
from pantala_peer.containerd.configuration import ConfigurationReport, TokenOwner, cleanup, configure, keep_token
from pantala_peer.errors import PeerError
from pantala_pieces.errors import StoreError
from pantala_process.settings import SettingsError

_FLAGS = (
    ("certs-d", "DIR[:DIR]", "the folders in containerd's config_path", "/etc/containerd/certs.d:/etc/docker/certs.d"),
    ("containerd-state", "DIR", "where to keep the record for cleanup", "/var/lib/pantala/containerd"),
)
_CLEANUP_FLAGS = (
    ("root", "DIR", "root of a peer that was uninstalled: remove everything there but published files", ""),
)
_CONFIGURE_FLAGS = (
    ("registries", "LIST", "comma-separated names or URLs of registries to mirror beside the default", ""),
    ("mirror", "URL", "the mirror on this node", "http://127.0.0.1:65001"),
    ("mirror-resolve", "yes|no", "resolve tags at the mirror, too; as the peer's own flag", "no"),
    (
        "mirror-token-owner",
        "UID:GID",
        "user and group of the peer, if not those of this command",
        "",
    ),
    ("mirror-token-file", "FILE", "the token that containerd sends to the mirror; created if missing", ""),
)


def add_commands(commands: argparse._SubParsersAction[Any], environment: Mapping[str, str]) -> None:
    """Add the two commands to a parser. Each sets ``run``, which takes the parsed arguments.

    ``--foo-bar`` can also be set by ``PANTALA_FOO_BAR``.
    """
    for name, text, flags, run in (
        ("configure", "make this node's containerd ask the mirror", _FLAGS + _CONFIGURE_FLAGS, _configure),
        ("cleanup", "restore containerd's files", _FLAGS + _CLEANUP_FLAGS, _cleanup),
    ):
        parser = commands.add_parser(name, help=text, description=text)
        parser.set_defaults(run=run)
        for flag, shown, about, default in flags:
            value = environment.get("PANTALA_" + flag.upper().replace("-", "_"), "") or default
            parser.add_argument(f"--{flag}", metavar=shown, help=f"{about} ({default or 'none'})", default=value)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command. Exit code 0; 1 for a failure; 2 for invalid flags."""
    parser = argparse.ArgumentParser(prog="pantala-peer")
    add_commands(parser.add_subparsers(required=True), os.environ)
    given = parser.parse_args(arguments)
    try:
        report: ConfigurationReport = given.run(given)
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


def _configure(given: argparse.Namespace) -> ConfigurationReport:
    if given.mirror_resolve not in ("yes", "no"):
        raise SettingsError(f"--mirror-resolve: {given.mirror_resolve!r} is not valid; use yes or no")
    state = Path(given.containerd_state)
    file = Path(given.mirror_token_file) if given.mirror_token_file else state.with_name("mirror-token")
    token = keep_token(file, _owner(given.mirror_token_owner))
    names = [name for name in map(str.strip, given.registries.split(",")) if name]
    registries = [registry.parse_registry(name) for name in names]
    return configure(_folders(given), state, registries, given.mirror, token, resolve=given.mirror_resolve == "yes")


def _cleanup(given: argparse.Namespace) -> ConfigurationReport:
    report = cleanup(_folders(given), Path(given.containerd_state))
    if given.root:
        print(f"cached tasks removed: {uninstall.clear(Path(given.root))}")
    return report


def _owner(text: str) -> TokenOwner | None:
    if not text:
        return None
    user, _, group = text.partition(":")
    if not all(part.isascii() and part.isdigit() and len(part) <= 10 for part in (user, group)):
        raise SettingsError(f"--mirror-token-owner: {text!r} is not UID:GID; use numbers like 65532:65532")
    return TokenOwner(int(user), int(group))


def _folders(given: argparse.Namespace) -> list[Path]:
    """The folders in containerd's form. Its own default has two since 2.3."""
    folders = [Path(folder) for folder in str(given.certs_d).split(":") if folder]
    if not folders or not all(folder.is_absolute() for folder in folders):
        raise SettingsError(f"--certs-d: {given.certs_d!r} is not a list of absolute paths; copy config_path")
    return folders


if __name__ == "__main__":
    main()
