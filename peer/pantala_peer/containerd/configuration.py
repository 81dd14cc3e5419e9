"""What is done to a node's containerd: tell it of the mirror, and put all back. It needs no restart."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from pantala_peer.containerd.errors import FolderError
from pantala_peer.containerd.folder import Folder
from pantala_peer.containerd.hosts import Mirror
from pantala_peer.containerd.plan import Plan, Record, Tree, Wish, plan, wanted
from pantala_peer.containerd.registry import Registry


class Report(NamedTuple):
    """What was done below ``certs.d``."""

    changed: tuple[str, ...]
    """Directories that were written or put back."""
    notes: tuple[str, ...]
    """What a person should know, a line each."""
    finished: bool
    """False: something could not be put back; the notes say what and why."""


def configure(
    certs_d: Sequence[Path],
    state: Path,
    registries: Sequence[Registry],
    mirror_url: str,
    token: str,
    *,
    resolve: bool = False,
) -> Report:
    """Have containerd ask the mirror first, for ``registries`` and for all that have no directory of their own.

    ``certs_d`` are containerd's folders in its order. The first is written; what stands in the others stays in force.
    With ``resolve`` it asks the mirror what tags mean, too.
    Called at each start: what is as it should be stays, what was written anew meanwhile is told again. Blocks. Raises
    :class:`FolderError`, and :class:`SettingsError` for a mirror that cannot be written down.
    """
    mirror = Mirror(mirror_url, token, resolve)

    def decide(tree: Tree, record: Record) -> Plan:
        return plan(tree, record, wanted(tree, record, registries, mirror))

    return _report([_carry_out(*view, decide) for view in _views(certs_d, state)])


def cleanup(certs_d: Sequence[Path], state: Path) -> Report:
    """Put all back to the byte, or take only our part out where somebody changed a file. Blocks.

    Nothing to undo is no error. Raises :class:`FolderError`; then it can be called again.
    """

    def decide(tree: Tree, record: Record) -> Plan:
        return plan(tree, record, Wish())

    return _report([_carry_out(*view, decide) for view in reversed(_views(certs_d, state))])


class Owner(NamedTuple):
    """Who runs the peer."""

    user: int
    group: int


def keep_token(path: Path, owner: Owner | None = None) -> str:
    """The token in ``path``, made the first time; only its owner may read it. Raises :class:`FolderError`.

    With an ``owner`` it is theirs, whoever made it, and they are let through to it.
    """
    try:
        path.parent.mkdir(mode=0o700 if owner is None else 0o711, parents=True, exist_ok=True)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            token = path.read_text("ascii", "replace").strip()
        else:
            token = secrets.token_urlsafe(32)
            with os.fdopen(fd, "w") as file:
                file.write(token)
        if owner is not None:
            _give(path, owner)
    except OSError as error:
        raise FolderError(f"the mirror's token cannot be kept in {path}: {error.strerror}") from error
    if not token:  # a crash came between making and writing
        path.unlink(missing_ok=True)
        return keep_token(path, owner)
    return token


def _give(path: Path, owner: Owner) -> None:
    folder = path.parent.stat().st_mode & 0o777
    if folder & 0o111 != 0o111:
        path.parent.chmod(folder | 0o111)
    os.chown(path, owner.user, owner.group, follow_symlinks=False)


def _views(certs_d: Sequence[Path], state: Path) -> list[tuple[Sequence[Path], Path]]:
    """The folders as they are meant; and as containerd 2.1 to 2.4 takes a list of them, for *one* folder's name.

    (Its issue 12415; other settings than its defaults make it read the list.) Nothing else is in force there then, so
    what we write there hides nothing.
    """
    views: list[tuple[Sequence[Path], Path]] = [(certs_d, state)]
    if len(certs_d) > 1:
        views.append(([Path(":".join(map(str, certs_d)))], state / "list"))
    return views


def _carry_out(certs_d: Sequence[Path], state: Path, decide: Callable[[Tree, Record], Plan]) -> tuple[Path, Plan]:
    folder = Folder(certs_d, state)
    with folder.alone():
        todo = decide(folder.look(), folder.recall())
        folder.carry_out(todo)
    return certs_d[0], todo


def _report(done: Sequence[tuple[Path, Plan]]) -> Report:
    changed = [
        str(folder / name)
        for folder, todo in done
        for name in sorted({*todo.writes, *todo.restores, *todo.links, *todo.unlinks} - todo.unfinished)
    ]
    notes = [note for _, todo in done for note in todo.notes]
    return Report(tuple(changed), tuple(dict.fromkeys(notes)), not any(todo.unfinished for _, todo in done))
