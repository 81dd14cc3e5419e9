"""Restores Pantala's part of containerd's files after another program changed it. For example, k3s rewrites the files.

``pantala-peer watch`` runs as root in a container beside the peer, because the peer may not write these files. After a
repair it writes a note, which the peer reports. It repairs only folders that have a record of ``pantala-peer
configure``. ``pantala-peer cleanup`` removes the record, and so ends the repairs at once.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import structlog

from pantala_peer.containerd.configuration import Decide
from pantala_peer.containerd.errors import FolderError
from pantala_peer.containerd.folder import Folder
from pantala_peer.containerd.plan import Tree
from pantala_pieces import records
from pantala_pieces.records import RecordError
from pantala_pieces.writing import clear_name

INTERVAL = 20.0
"""Seconds between two comparisons."""
SETTLE = 2.0
"""Seconds to wait before the repair. If the files change again in this time, the other program is still writing."""
_SAME_NOTE = 600
"""Seconds in which equal repairs write only one note, because some programs rewrite the files repeatedly."""
_NAMES = 5

log = structlog.get_logger()


class RepairNote(msgspec.Struct, frozen=True, omit_defaults=True):
    """Describes the last change by another program, and whether it was repaired."""

    at: int
    """Seconds since the epoch."""
    names: tuple[str, ...] = ()
    """Directories below ``certs.d`` that were repaired."""
    fault: str = ""
    """Why the repair failed. Empty: it succeeded."""

    def __str__(self) -> str:
        if self.fault:
            again = f"The peer tries again every {INTERVAL:g} s"
            return f"The peer cannot write its part of containerd's files: {self.fault}. {again}"
        names = ", ".join(self.names[:_NAMES]) + (", and more" if len(self.names) > _NAMES else "")
        when = f"{datetime.fromtimestamp(self.at, UTC):%Y-%m-%dT%H:%M:%SZ}"
        return f"Another program changed hosts.toml of {names} at {when}. The peer restored its part."


def note_file(token_file: Path) -> Path:
    """The path of the note. It is in the folder of the token, which the peer may read."""
    return token_file.with_name("mirror-repair.json")


def read_note(token_file: Path | None) -> RepairNote | None:
    """The note. ``None``: no valid note exists, or the node has no token file."""
    if token_file is None:
        return None
    try:
        return records.load(note_file(token_file), RepairNote)
    except (OSError, RecordError):
        return None


class FolderRepair:
    """Repairs one folder of containerd. ``on_repair`` is called with the repaired directories, inside the lock."""

    def __init__(self, certs_d: Sequence[Path], state: Path, on_repair: Callable[[tuple[str, ...]], None]) -> None:
        self._folder = Folder(certs_d, state)
        self._on_repair = on_repair
        self._seen: Tree | None = None
        self._done: Tree | None = None

    @property
    def recorded(self) -> bool:
        """True if the folder was configured, and has not been cleaned up since then."""
        return self._folder.recorded

    def step(self, decide: Decide) -> bool:
        """Compare the files with the plan, and repair a change that the previous step has already seen.

        Returns True if a change was seen for the first time. The next step then repairs it. Blocks. Raises
        :class:`FolderError`.
        """
        with self._folder.alone(create=False):
            record = self._folder.read_record()
            if not record.entries and not record.links:  # the folder has just been cleaned up
                return False
            tree = self._folder.read_tree()
            todo = decide(tree, record)
            seen, self._seen = self._seen, None
            if not todo.changed or tree == self._done:
                return False
            if tree != seen:
                self._seen = tree
                return True
            self._folder.carry_out(todo)
            self._done = self._folder.read_tree()
            self._on_repair(tuple(sorted(todo.changed)))
            return False


class ConfigurationWatch:
    """Watches all folders.

    ``decide`` reads the token, and returns the function that plans the files. ``wall`` returns seconds since the epoch.
    """

    def __init__(
        self,
        views: Sequence[tuple[Sequence[Path], Path]],
        decide: Callable[[], Decide],
        token_file: Path,
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._folders = [FolderRepair(certs_d, state, self._on_repair) for certs_d, state in views]
        self._decide = decide
        self._token_file = token_file
        self._wall = wall

    async def run(self) -> None:
        if not await asyncio.to_thread(lambda: any(folder.recorded for folder in self._folders)):
            log.warning(
                "containerd is not configured for the mirror, so nothing is watched; run pantala-peer configure"
            )
        while True:
            waits = await asyncio.to_thread(self.step)
            await asyncio.sleep(SETTLE if waits else INTERVAL)

    def step(self) -> bool:
        """Compare all folders once, as :meth:`FolderRepair.step`. Failures are logged and noted. Blocks."""
        waits = False
        try:
            for folder in self._folders:
                if folder.recorded:
                    waits = folder.step(self._decide()) or waits
        except FolderError as error:
            log.warning("cannot repair containerd's files; trying again", error=str(error))
            if any(folder.recorded for folder in self._folders):
                self._leave(RepairNote(int(self._wall()), fault=str(error)))
            return False
        last = read_note(self._token_file)
        if last is not None and last.fault and not waits:
            with contextlib.suppress(OSError):  # a later step removes it
                note_file(self._token_file).unlink(missing_ok=True)
        return waits

    def _on_repair(self, names: tuple[str, ...]) -> None:
        log.warning("another program changed containerd's files; Pantala's part was restored", names=names)
        self._leave(RepairNote(int(self._wall()), names))

    def _leave(self, note: RepairNote) -> None:
        last, file = read_note(self._token_file), note_file(self._token_file)
        if last is not None and (last.names, last.fault) == (note.names, note.fault) and note.at < last.at + _SAME_NOTE:
            return
        temporary = file.with_suffix(".new")
        try:
            clear_name(temporary)
            temporary.write_bytes(records.seal(msgspec.json.encode(note)))
            temporary.chmod(0o644)
            temporary.replace(file)
        except OSError as error:
            log.warning("cannot write the note about a repair", file=str(file), error=str(error))
