"""Makes a node's containerd ask the mirror, and restores its former configuration. containerd needs no restart."""

import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from pantala_peer.containerd.errors import FolderError
from pantala_peer.containerd.folder import Folder
from pantala_peer.containerd.hosts import MirrorHost
from pantala_peer.containerd.plan import DesiredFiles, FolderRecord, Plan, Tree, plan, wanted
from pantala_peer.containerd.registry import ContainerdRegistry
from pantala_pieces.errors import store_error

Decide = Callable[[Tree, FolderRecord], Plan]


class ConfigurationReport(NamedTuple):
    """The changes below ``certs.d``."""

    changed: tuple[str, ...]
    """Directories that were written or restored."""
    notes: tuple[str, ...]
    """Messages for the administrator, one line each."""
    finished: bool
    """False if a directory could not be restored. The notes name the directory and the cause."""


def configure(
    certs_d: Sequence[Path],
    state: Path,
    registries: Sequence[ContainerdRegistry],
    mirror_url: str,
    token: str,
    *,
    resolve: bool = False,
) -> ConfigurationReport:
    """Make containerd ask the mirror first, for ``registries`` and for all registries without a directory.

    ``certs_d`` are containerd's folders in its order. Only the first folder is written. Settings in further folders
    stay in force. With ``resolve``, containerd also asks the mirror for tags. Call this at each start, to repair files
    that were rewritten meanwhile. Blocks. Raises :class:`FolderError`, and :class:`SettingsError` for a wrong mirror.
    """
    decide = deciding(registries, mirror_url, token, resolve=resolve)
    return _report([_carry_out(*view, decide) for view in views(certs_d, state)])


def deciding(registries: Sequence[ContainerdRegistry], mirror_url: str, token: str, *, resolve: bool = False) -> Decide:
    """Plan the files that name the mirror. Raises :class:`SettingsError` for an invalid mirror."""
    mirror = MirrorHost(mirror_url, token, resolve)

    def decide(tree: Tree, record: FolderRecord) -> Plan:
        return plan(tree, record, wanted(tree, record, registries, mirror))

    return decide


def cleanup(certs_d: Sequence[Path], state: Path) -> ConfigurationReport:
    """Restore all files to the byte. From a file that was edited meanwhile, remove only the peer's part. Blocks.

    Raises :class:`FolderError`. This can be called again after an error.
    """

    def decide(tree: Tree, record: FolderRecord) -> Plan:
        return plan(tree, record, DesiredFiles())

    return _report([_carry_out(*view, decide) for view in reversed(views(certs_d, state))])


class TokenOwner(NamedTuple):
    """The IDs of the user and the group that the peer runs as."""

    user: int
    group: int


def keep_token(path: Path, owner: TokenOwner | None = None) -> str:
    """Return the token in ``path``. If the file is missing, create it with a new token. Only its owner may read it.

    ``owner`` becomes the file's owner and gets access to its folder. Raises :class:`FolderError`.
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
        what = f"write the mirror's token to {path}"
        raise FolderError(str(store_error(what, error, "Check this path"))) from error
    if not token:  # a crash between creation and writing
        path.unlink(missing_ok=True)
        return keep_token(path, owner)
    return token


def _give(path: Path, owner: TokenOwner) -> None:
    folder = path.parent.stat().st_mode & 0o777
    if folder & 0o111 != 0o111:
        path.parent.chmod(folder | 0o111)
    os.chown(path, owner.user, owner.group, follow_symlinks=False)


def views(certs_d: Sequence[Path], state: Path) -> list[tuple[Sequence[Path], Path]]:
    """The lists of folders, each with the folder of its record: the given list, and a folder whose *name* is this list.

    Because of bug 12415, containerd 2.1 to 2.4 with default settings reads only the second folder. That folder has no
    other files, so the peer's files hide nothing there.
    """
    found: list[tuple[Sequence[Path], Path]] = [(certs_d, state)]
    if len(certs_d) > 1:
        found.append(([Path(":".join(map(str, certs_d)))], state / "list"))
    return found


def _carry_out(certs_d: Sequence[Path], state: Path, decide: Decide) -> tuple[Path, Plan]:
    folder = Folder(certs_d, state)
    with folder.alone():
        todo = decide(folder.read_tree(), folder.read_record())
        folder.carry_out(todo)
    return certs_d[0], todo


def _report(done: Sequence[tuple[Path, Plan]]) -> ConfigurationReport:
    changed = [str(folder / name) for folder, todo in done for name in sorted(todo.changed)]
    notes = [note for _, todo in done for note in todo.notes]
    return ConfigurationReport(
        tuple(changed), tuple(dict.fromkeys(notes)), not any(todo.unfinished for _, todo in done)
    )
