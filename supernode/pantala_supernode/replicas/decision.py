"""Who reads the origin when several supernodes want one file, and who takes it from whom. Pure.

Each says at what stage it is with a file, and asks all others before it reads the origin. It may read only if it said
that it is about to (:attr:`Stage.CLAIMING`), asked the others *after* that, and nobody reads or claims: of two who
want to at the same moment at least one sees the other, and of two who see each other the lesser name goes first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, auto

import msgspec

from pantala_protocol import digest, ranges
from pantala_protocol.statement import Failure

_GENERATION = re.compile("[0-9A-Za-z]{0,64}")


class Stage(StrEnum):
    """What a supernode is at with a file."""

    IDLE = "idle"
    """Nothing: it has all, rests after a failure, or nobody wants the file there."""
    ASKING = "asking"
    """It looks where to take the file from, and will not read the origin before it asked again."""
    CLAIMING = "claiming"
    """It will read the origin, unless somebody else does."""
    READING = "reading"
    """It reads the origin."""
    COPYING = "copying"
    """It takes the file from another supernode; so nobody takes from it what it does not have yet."""


class CopyReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one supernode has of a file that is wanted there."""

    task_id: str
    stage: Stage
    whole: bool = False
    """It has all of it, checked."""
    generation: str = ""
    """Empty: it has nothing yet."""
    piece_size: int = 0
    length: int | None = None
    etag: str = ""
    last_modified: str = ""
    digest: str = ""
    """``sha256:`` of the whole, once it has all."""
    cached: str = ""
    """The pieces that can be had right now, as ranges."""
    origin_bytes: int = 0
    """Bytes of body read from the origin for it."""
    failure: Failure | None = None

    def __post_init__(self) -> None:
        """Another process says this: raises :class:`ValueError` for what cannot be meant."""
        if not _GENERATION.fullmatch(self.generation) or self.piece_size < 0 or (self.length or 0) < 0:
            raise ValueError("not a copy")
        if bool(self.generation) != bool(self.piece_size):
            raise ValueError("a content without pieces, or pieces of no content")
        ranges.parse(self.cached)
        if self.digest:
            digest.parse(self.digest)


class Act(Enum):
    """What to do next."""

    TAKE = auto()
    """Read the giver's copy."""
    READ = auto()
    """Read the origin."""
    CLAIM = auto()
    """Say that the origin is about to be read, and ask again."""
    WANT = auto()
    """Have the owner want the file, and ask again."""
    WAIT = auto()
    """Ask again in a moment, without a claim."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, and with whom."""

    act: Act
    giver: str = ""
    end: int | None = None
    """The byte behind the last one that the giver can give; ``None``: all up to the end of the file."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a supernode is about to fetch."""

    name: str
    """The supernode's own."""
    owner: str = ""
    """The other one who shall read the origin; empty: this one may."""
    claimed: bool = False
    """It said that it is :attr:`Stage.CLAIMING` before it asked."""
    generation: str = ""
    """Of what it has; empty: nothing."""
    offset: int = 0
    """The first byte that it lacks of that."""
    pinned: bool = False
    """A digest says which content is meant, so that a part of one can be gone on with even if nothing else names it."""


def decide(need: Need, said: Mapping[str, CopyReport | None]) -> Decision:
    """What follows from what those said who could be reached; ``None``: they have nothing of the file."""
    reports = {name: report for name, report in said.items() if report is not None}
    giver = _giver(need, reports)
    if giver is not None:
        return giver
    if any(report.stage is Stage.READING for report in reports.values()):
        return Decision(Act.WAIT)  # it has not got its answer yet
    if need.owner in said:
        return Decision(Act.WANT, need.owner)
    claims = [name for name, report in reports.items() if report.stage is Stage.CLAIMING]
    if any(name < need.name for name in claims):
        return Decision(Act.WAIT)
    return Decision(Act.CLAIM if claims or not need.claimed else Act.READ)


def _giver(need: Need, reports: Mapping[str, CopyReport]) -> Decision | None:
    """Who gives most: all of it at once, all of it as it comes, or a part that would be read again otherwise."""
    able = {name: report for name, report in reports.items() if report.generation}
    own = sorted(able, key=lambda name: (able[name].generation != need.generation, name))
    for name in own:
        if able[name].whole:
            return Decision(Act.TAKE, name)
    for name in own:
        if able[name].stage is Stage.READING:
            return Decision(Act.TAKE, name)
    parts = {name: _part(need, able[name]) for name in own}
    name = max(parts, key=lambda name: parts[name], default="")
    return Decision(Act.TAKE, name, parts[name]) if name and parts[name] > need.offset else None


def _part(need: Need, report: CopyReport) -> int:
    """Up to which byte another's pieces follow on what we have, without a gap."""
    named = report.etag or report.last_modified or need.pinned
    if not named or report.length is None or need.generation not in ("", report.generation):
        return 0
    offset = need.offset if need.generation else 0
    held = ranges.parse(report.cached) >> offset // report.piece_size
    run = (~held & held + 1).bit_length() - 1
    return min((offset // report.piece_size + run) * report.piece_size, report.length) if run else 0
