"""What is done to a node's containerd: tell it of the mirror, and put all back. It needs no restart."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pantala_peer.containerd.errors import FolderError
from pantala_peer.containerd.folder import Folder
from pantala_peer.containerd.hosts import Mirror
from pantala_peer.containerd.plan import Plan, plan, wanted
from pantala_peer.containerd.registry import Registry


class Report(NamedTuple):
    """What was done below ``certs.d``."""

    changed: tuple[str, ...]
    """Directories whose ``hosts.toml`` was written or put back."""
    notes: tuple[str, ...]
    """What a person should know, a line each."""
    finished: bool
    """False: something could not be put back; the notes say what and why."""


def configure(certs_d: Path, state: Path, registries: Sequence[Registry], mirror_url: str, token: str) -> Report:
    """Have containerd ask the mirror first, for ``registries`` and for all that have no directory of their own.

    Called at each start: what is as it should be stays, what was written anew meanwhile is told again. Blocks. Raises
    :class:`FolderError`, and :class:`SettingsError` for a mirror that cannot be written down.
    """
    mirror = Mirror(mirror_url, token)
    folder = Folder(certs_d, state)
    with folder.alone():
        tree, record = folder.look(), folder.recall()
        todo = plan(tree, record, wanted(tree, record, registries, mirror))
        folder.carry_out(todo)
    return _report(todo)


def cleanup(certs_d: Path, state: Path) -> Report:
    """Put all back to the byte, or take only our part out where somebody changed a file. Blocks.

    Nothing to undo is no error. Raises :class:`FolderError`; then it can be called again.
    """
    folder = Folder(certs_d, state)
    with folder.alone():
        todo = plan(folder.look(), folder.recall(), {})
        folder.carry_out(todo)
    return _report(todo)


def keep_token(path: Path) -> str:
    """The token in ``path``, made the first time; only its owner may read it. Raises :class:`FolderError`."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            token = path.read_text("ascii", "replace").strip()
        else:
            token = secrets.token_urlsafe(32)
            with os.fdopen(fd, "w") as file:
                file.write(token)
    except OSError as error:
        raise FolderError(f"the mirror's token cannot be kept in {path}: {error.strerror}") from error
    if not token:  # a crash came between making and writing
        path.unlink(missing_ok=True)
        return keep_token(path)
    return token


def _report(todo: Plan) -> Report:
    changed = sorted(todo.writes.keys() | todo.restores.keys() - todo.unfinished)
    return Report(tuple(changed), tuple(todo.notes), not todo.unfinished)
