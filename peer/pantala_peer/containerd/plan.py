"""What to change below ``certs.d``, decided from what is there and from what is remembered. Pure.

One rule serves start, restart, repair and leave: for each directory it is worked out what it was without us, and the
goal is that, with our part where it is wanted. What others did meanwhile is taken as their will.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from msgspec import structs

from pantala_peer.containerd import hosts
from pantala_peer.containerd.errors import UnusableFileError
from pantala_peer.containerd.hosts import Mirror, Part
from pantala_peer.containerd.registry import Registry

DEFAULT = "_default"
"""The directory for the registries that have none of their own."""

_PORT = re.compile(r"(.+)(?:_([0-9]+)_|:([0-9]+))")
_MOVE = "move it to the first of containerd's folders"
_MODE = 0o600
"""Of a file with our token in it, while it is there."""


class File(msgspec.Struct, frozen=True):
    """A ``hosts.toml``, whole."""

    content: bytes
    mode: int
    uid: int
    gid: int


class Place(NamedTuple):
    """What is at one directory's name."""

    directory: bool = False
    file: File | None = None
    obstacle: str = ""
    """Why neither may be touched."""
    certificates: bool = False
    """Files that containerd reads only where there is no ``hosts.toml``."""
    link: str = ""
    """Where it leads, if it is a link."""


class Tree(NamedTuple):
    """``certs.d``, and what containerd reads after it."""

    places: Mapping[str, Place]
    missing: tuple[str, ...] = ()
    """Its path and those of its parents that do not exist, the outermost first."""
    owner: tuple[int, int] = (0, 0)
    """User and group of what is new."""
    beyond: Mapping[str, str] = {}
    """Directories in further folders, by name: their paths. Any default in ``certs.d`` hides them from containerd."""


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one directory was without us."""

    directory: bool
    file: File | None
    written: tuple[str, ...] = ()
    """SHA-256 of what we put there, the newest first: a crash may have left its predecessor."""


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """What has to be known to put all back. Durable before anything changes."""

    entries: dict[str, Entry] = {}
    made: tuple[str, ...] = ()
    """``certs.d`` and its parents, where we made them; the outermost first."""
    links: dict[str, str] = {}
    """Links that we made there: where they lead."""


@dataclass(slots=True)
class Wish:
    """What we want to be there."""

    parts: dict[str, Part] = field(default_factory=dict)
    """Our part, by directory."""
    links: dict[str, str] = field(default_factory=dict)
    """Links to directories that our default would hide otherwise."""
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Plan:
    """Steps in their order: remember, put back, link, write, unlink, remember what is left."""

    record: Record
    links: dict[str, str] = field(default_factory=dict)
    writes: dict[str, File] = field(default_factory=dict)
    restores: dict[str, Entry] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """What a person should know; each names its file."""
    unlinks: dict[str, str] = field(default_factory=dict)
    unfinished: set[str] = field(default_factory=set)
    """What could not be put back."""

    @property
    def idle(self) -> bool:
        """There is nothing to do."""
        return not (self.links or self.writes or self.restores or self.unlinks)

    @property
    def after(self) -> Record:
        """What is to be remembered in the end."""
        gone = {*self.restores.keys() - self.unfinished, *self.unlinks}
        entries = {name: entry for name, entry in self.record.entries.items() if name not in gone}
        links = {name: target for name, target in self.record.links.items() if name not in gone}
        return Record(entries, self.record.made, links)


def wanted(tree: Tree, record: Record, registries: Iterable[Registry], mirror: Mirror) -> Wish:
    """Our part in the default, in each registry's directory, and in one of ours to be probed by."""
    tree = _without_links(tree, record)
    theirs = {name for name, place in tree.places.items() if _before(place, record.entries.get(name)).directory}
    beyond = {} if DEFAULT in theirs else tree.beyond  # a default of somebody else hides them already
    result = Wish()
    for registry in registries:
        there = next((name for name in registry.directories if name in theirs), None)
        if there is not None:
            result.parts[there] = Part(mirror, registry.server, mirror.capabilities)
        elif beyond.keys().isdisjoint((*registry.directories, DEFAULT)) and not _has_file(DEFAULT, tree, record):
            result.parts[registry.name] = Part(mirror, registry.server, mirror.capabilities)
        # Else a directory of its own would hide from containerd what somebody set for it, or for all.
    if DEFAULT in beyond:
        result.notes.append(f"{beyond[DEFAULT]}: the mirror is not used by default, for it would hide this; {_MOVE}")
    else:
        result.parts[DEFAULT] = Part(mirror, capabilities=mirror.capabilities, everybody=True)
        for name, path in beyond.items():
            if theirs.isdisjoint(_spellings(name)):
                result.links[name] = path
                result.notes.append(f"{path}: the mirror is not used for it; {_MOVE} and list it to change that")
    name = f"localhost:{mirror.url.rpartition(':')[2]}"  # only the mirror is behind this name
    result.parts[name] = Part(mirror, server=mirror.url, capabilities=("pull", "resolve"))
    return result


def plan(tree: Tree, record: Record, wish: Wish) -> Plan:
    """Change what is below ``certs.d`` so that what we wish is there, and nothing else of ours."""
    made = dict.fromkeys((*tree.missing, *record.made))
    result = Plan(Record(dict(record.entries), tuple(sorted(made, key=len)), {**record.links, **wish.links}))
    result.notes += wish.notes
    there = {name for name, target in record.links.items() if tree.places.get(name, Place()).link == target}
    result.links = {name: target for name, target in wish.links.items() if name not in there}
    result.unlinks = {name: target for name, target in record.links.items() if name not in wish.links}
    tree = _without_links(tree, record)
    for name in sorted({*tree.places, *record.entries, *wish.parts}):
        place, entry = tree.places.get(name, Place()), record.entries.get(name)
        before = _before(place, entry)
        goal = _goal(name, place, before, wish.parts.get(name), tree.owner, result)
        if goal is not None:
            written = (hashlib.sha256(goal.content).hexdigest(), *(entry.written if entry else ()))
            result.record.entries[name] = structs.replace(before, written=tuple(dict.fromkeys(written))[:2])
            if goal != place.file:
                result.writes[name] = goal
        elif entry is not None or (place.file is not None and hosts.has_ours(place.file.content)):
            _restore(name, place, entry, before, result)
        elif wish.parts and name not in wish.parts and place.directory:
            result.notes.append(f"{name}: it has a directory of its own, and the mirror is not used for it; list it")
    return result


def _without_links(tree: Tree, record: Record) -> Tree:
    """The tree as it is for others: our links are not there."""
    places = {
        name: place for name, place in tree.places.items() if not place.link or record.links.get(name) != place.link
    }
    return tree._replace(places=places)


def _spellings(name: str) -> tuple[str, ...]:
    """The names of one registry's directory."""
    match = _PORT.fullmatch(name)
    if match is None:
        return (name,)
    port = match[2] or match[3]
    return (f"{match[1]}_{port}_", f"{match[1]}:{port}")


def _before(place: Place, entry: Entry | None) -> Entry:
    """What a directory was without us, or is now by the will of somebody else."""
    if place.file is None:
        return Entry(place.directory and (entry is None or entry.directory), None)
    if not hosts.has_ours(place.file.content):
        return Entry(True, place.file)
    if entry is not None and _digest(place.file) in entry.written:
        return structs.replace(entry, written=())
    rest = hosts.without_ours(place.file.content)
    if not rest.strip() and (entry is None or entry.file is None):
        return Entry(entry is not None and entry.directory, None)
    kept = entry.file if entry is not None and entry.file is not None else None
    if kept is None:
        return Entry(True, File(rest, 0o644, place.file.uid, place.file.gid))
    return Entry(True, structs.replace(kept, content=rest))


def _goal(
    name: str, place: Place, before: Entry, part: Part | None, owner: tuple[int, int], result: Plan
) -> File | None:
    """The file with our part in it; ``None`` where it is not wanted, or cannot be, which is noted."""
    if part is None:
        return None
    why = place.obstacle
    content = before.file.content if before.file is not None else b""
    if not why and not content and place.certificates:
        why = "its certificates would not be read any more; write a hosts.toml that names them"
    if not why:
        try:
            new = hosts.with_ours(content, part)
        except UnusableFileError as error:
            why = str(error)
        else:
            uid, gid = (before.file.uid, before.file.gid) if before.file is not None else owner
            return File(new, _MODE, uid, gid)
    result.notes.append(f"{name}: the mirror is not used for it: {why}")
    return None


def _restore(name: str, place: Place, entry: Entry | None, before: Entry, result: Plan) -> None:
    result.restores[name] = before
    if place.obstacle:
        result.unfinished.add(name)
        result.notes.append(f"{name}: it cannot be put back: {place.obstacle}")
    elif entry is None:
        result.notes.append(f"{name}: nothing is remembered of it; Pantala's part was taken out")
    elif place.file is None and entry.file is not None:
        result.notes.append(f"{name}: hosts.toml was removed by somebody; it stays so")
    elif place.file is not None and place.file != entry.file and _digest(place.file) not in entry.written:
        result.notes.append(f"{name}: hosts.toml was changed by somebody; only Pantala's part was taken out")


def _has_file(name: str, tree: Tree, record: Record) -> bool:
    file = _before(tree.places.get(name, Place()), record.entries.get(name)).file
    return file is not None and bool(file.content.strip())


def _digest(file: File) -> str:
    return hashlib.sha256(file.content).hexdigest()
