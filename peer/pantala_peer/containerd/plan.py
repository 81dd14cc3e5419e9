"""Plans the changes below ``certs.d`` from its current content and from the peer's record of former changes. Pure.

One rule is enough for start, restart, repair and cleanup. For each directory, the plan computes the state without the
peer's changes. The goal is this state, plus the peer's part where it is wanted. Other programs' changes are kept.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from msgspec import structs

from pantala_peer.containerd import hosts
from pantala_peer.containerd.errors import UnusableFileError
from pantala_peer.containerd.hosts import HostPart, MirrorHost
from pantala_peer.containerd.registry import ContainerdRegistry

DEFAULT = "_default"
"""The name of the directory for all registries without a directory of their own."""

_PORT = re.compile(r"(.+)(?:_([0-9]+)_|:([0-9]+))")
_MOVE = "move it to the first folder in config_path"
_MODE = 0o600
"""The file mode of a ``hosts.toml`` with the mirror's token."""


class HostsFile(msgspec.Struct, frozen=True):
    """A whole ``hosts.toml``."""

    content: bytes
    mode: int
    uid: int
    gid: int


class Place(NamedTuple):
    """One directory below ``certs.d``, or the file or link with its name."""

    directory: bool = False
    file: HostsFile | None = None
    obstacle: str = ""
    """Why the peer must not change the place. Empty: the peer may change it."""
    certificates: bool = False
    """True if the directory has files that containerd reads only without a ``hosts.toml``."""
    link: str = ""
    """The target, if the place is a link."""


class Tree(NamedTuple):
    """``certs.d``, and the folders that containerd reads after it."""

    places: Mapping[str, Place]
    missing: tuple[str, ...] = ()
    """The paths of ``certs.d`` and of its parents that do not exist, the outermost first."""
    owner: tuple[int, int] = (0, 0)
    """User and group of new files."""
    beyond: Mapping[str, str] = {}
    """The paths of directories in containerd's further folders, by name. A default in ``certs.d`` hides them."""


class FormerState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The state of one directory before the peer changed it."""

    directory: bool
    file: HostsFile | None
    written: tuple[str, ...] = ()
    """SHA-256 of the files that the peer wrote there, newest first. After a crash, the previous file may be there."""


class FolderRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """The former state of ``certs.d``. The record is on the disk before the peer changes a file."""

    entries: dict[str, FormerState] = {}
    made: tuple[str, ...] = ()
    """``certs.d`` and its parents, if the peer created them, the outermost first."""
    links: dict[str, str] = {}
    """The targets of the peer's links, by name."""


@dataclass(slots=True)
class DesiredFiles:
    """The parts and links that the peer wants below ``certs.d``."""

    parts: dict[str, HostPart] = field(default_factory=dict)
    """The peer's part of each file, by directory."""
    links: dict[str, str] = field(default_factory=dict)
    """Links to directories that the peer's default would otherwise hide."""
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Plan:
    """The steps of a change. Their order: write the record, restore, link, write, unlink, write the record again."""

    record: FolderRecord
    links: dict[str, str] = field(default_factory=dict)
    writes: dict[str, HostsFile] = field(default_factory=dict)
    restores: dict[str, FormerState] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """Messages for the administrator. Each names its file."""
    unlinks: dict[str, str] = field(default_factory=dict)
    unfinished: set[str] = field(default_factory=set)
    """Directories that could not be restored."""

    @property
    def idle(self) -> bool:
        return not (self.links or self.writes or self.restores or self.unlinks)

    @property
    def changed(self) -> set[str]:
        """The directories that the plan changes."""
        return {*self.writes, *self.restores, *self.links, *self.unlinks} - self.unfinished

    @property
    def after(self) -> FolderRecord:
        gone = {*self.restores.keys() - self.unfinished, *self.unlinks}
        entries = {name: entry for name, entry in self.record.entries.items() if name not in gone}
        links = {name: target for name, target in self.record.links.items() if name not in gone}
        return FolderRecord(entries, self.record.made, links)


def wanted(
    tree: Tree, record: FolderRecord, registries: Iterable[ContainerdRegistry], mirror: MirrorHost
) -> DesiredFiles:
    """The desired files: the peer's part for the default, for each registry, and for the probe."""
    tree = _without_links(tree, record)
    theirs = {name for name, place in tree.places.items() if _before(place, record.entries.get(name)).directory}
    beyond = {} if DEFAULT in theirs else tree.beyond  # the administrator's default already hides them
    result = DesiredFiles()
    for registry in registries:
        there = next((name for name in registry.directories if name in theirs), None)
        if there is not None:
            result.parts[there] = HostPart(mirror, registry.server, mirror.capabilities)
        elif beyond.keys().isdisjoint((*registry.directories, DEFAULT)) and not _has_file(DEFAULT, tree, record):
            result.parts[registry.name] = HostPart(mirror, registry.server, mirror.capabilities)
        # Otherwise a new directory would hide settings for this registry, or for all registries.
    hidden = next((name for name in beyond if name == DEFAULT or _is_blocked(name, tree, theirs)), None)
    if hidden is not None:
        result.notes.append(f"{beyond[hidden]}: Pantala sets no default mirror, which would hide this folder; {_MOVE}")
    else:
        result.parts[DEFAULT] = HostPart(mirror, capabilities=mirror.capabilities, default=True)
        for name, path in beyond.items():
            if theirs.isdisjoint(_spellings(name)):
                result.links[name] = path
                result.notes.append(f"{path}: the mirror is not used for it; {_MOVE} and add it to --registries")
    name = f"localhost:{mirror.url.rpartition(':')[2]}"  # only the mirror has this name
    result.parts[name] = HostPart(mirror, server=mirror.url, capabilities=("pull", "resolve"))
    return result


def plan(tree: Tree, record: FolderRecord, desired: DesiredFiles) -> Plan:
    """Plan the changes after which the peer's parts and links in ``certs.d`` are exactly the ``desired`` ones."""
    made = dict.fromkeys((*tree.missing, *record.made))
    result = Plan(FolderRecord(dict(record.entries), tuple(sorted(made, key=len)), {**record.links, **desired.links}))
    result.notes += desired.notes
    there = {name for name, target in record.links.items() if tree.places.get(name, Place()).link == target}
    result.links = {name: target for name, target in desired.links.items() if name not in there}
    result.unlinks = {name: target for name, target in record.links.items() if name not in desired.links}
    tree = _without_links(tree, record)
    for name in sorted({*tree.places, *record.entries, *desired.parts}):
        place, entry = tree.places.get(name, Place()), record.entries.get(name)
        before = _before(place, entry)
        goal = _goal(name, place, before, desired.parts.get(name), tree.owner, result)
        if goal is not None:
            written = (hashlib.sha256(goal.content).hexdigest(), *(entry.written if entry else ()))
            result.record.entries[name] = structs.replace(before, written=tuple(dict.fromkeys(written))[:2])
            if goal != place.file:
                result.writes[name] = goal
        elif entry is not None or (place.file is not None and hosts.has_ours(place.file.content)):
            _restore(name, place, entry, before, result)
        elif desired.parts and name not in desired.parts and place.directory:
            result.notes.append(f"{name}: the mirror is not used for this folder; add it to --registries for that")
    return result


def _without_links(tree: Tree, record: FolderRecord) -> Tree:
    places = {
        name: place for name, place in tree.places.items() if not place.link or record.links.get(name) != place.link
    }
    return tree._replace(places=places)


def _is_blocked(name: str, tree: Tree, theirs: set[str]) -> bool:
    """True if a file or a broken link has the name, so that the peer cannot link to a directory in a further folder."""
    return theirs.isdisjoint(_spellings(name)) and bool(tree.places.get(name, Place()).obstacle)


def _spellings(name: str) -> tuple[str, ...]:
    """All names under which containerd looks for the directory of a registry."""
    match = _PORT.fullmatch(name)
    if match is None:
        return (name,)
    port = match[2] or match[3]
    return (f"{match[1]}_{port}_", f"{match[1]}:{port}")


def _before(place: Place, entry: FormerState | None) -> FormerState:
    """The state that a directory would have without the peer's changes, but with other programs' later changes."""
    if place.file is None:
        return FormerState(place.directory and (entry is None or entry.directory), None)
    if not hosts.has_ours(place.file.content):
        return FormerState(True, place.file)
    if entry is not None and _digest(place.file) in entry.written:
        return structs.replace(entry, written=())
    rest = hosts.without_ours(place.file.content)
    if not rest.strip() and (entry is None or entry.file is None):
        return FormerState(entry is not None and entry.directory, None)
    kept = entry.file if entry is not None and entry.file is not None else None
    if kept is None:
        return FormerState(True, HostsFile(rest, 0o644, place.file.uid, place.file.gid))
    return FormerState(True, structs.replace(kept, content=rest))


def _goal(
    name: str, place: Place, before: FormerState, part: HostPart | None, owner: tuple[int, int], result: Plan
) -> HostsFile | None:
    """The file with the peer's part. ``None``: the part is not wanted or not possible. The latter adds a note."""
    if part is None:
        return None
    why = place.obstacle
    content = before.file.content if before.file is not None else b""
    if not why and not content and place.certificates:
        why = "containerd would ignore its certificates; write a hosts.toml that names them"
    if not why:
        try:
            new = hosts.with_ours(content, part)
        except UnusableFileError as error:
            why = str(error)
        else:
            uid, gid = (before.file.uid, before.file.gid) if before.file is not None else owner
            return HostsFile(new, _MODE, uid, gid)
    result.notes.append(f"{name}: containerd cannot use the mirror for this folder: {why}")
    return None


def _restore(name: str, place: Place, entry: FormerState | None, before: FormerState, result: Plan) -> None:
    result.restores[name] = before
    if place.obstacle:
        result.unfinished.add(name)
        result.notes.append(f"{name}: this folder cannot be restored: {place.obstacle}")
    elif entry is None:
        result.notes.append(f"{name}: hosts.toml was not in the record; Pantala's part was removed")
    elif place.file is None and entry.file is not None:
        result.notes.append(f"{name}: another program has removed hosts.toml; it stays removed")
    elif place.file is not None and place.file != entry.file and _digest(place.file) not in entry.written:
        result.notes.append(f"{name}: another program has changed hosts.toml; only Pantala's part was removed")


def _has_file(name: str, tree: Tree, record: FolderRecord) -> bool:
    file = _before(tree.places.get(name, Place()), record.entries.get(name)).file
    return file is not None and bool(file.content.strip())


def _digest(file: HostsFile) -> str:
    return hashlib.sha256(file.content).hexdigest()
