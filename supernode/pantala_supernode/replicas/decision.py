"""Which replica reads the origin when several want one file, and from which replica the others copy it. Pure.

Each replica shows the stage of its work on a file and asks all others before it reads the origin. It may read only if
it first showed that it is about to (:attr:`Stage.CLAIMING`), then asked the others, and none of them reads or claims.
Of two replicas that want to read at the same moment, at least one sees the other. If both do, the lesser name goes
first.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, auto

import msgspec

from pantala_protocol import digest, ranges
from pantala_protocol.statement import Failure

_GENERATION = re.compile("[0-9A-Za-z]{0,64}")


class Stage(StrEnum):
    """The stage of a replica's work on a file."""

    IDLE = "idle"
    """No work: it has all of the file, rests after a failure, or does not want the file."""
    ASKING = "asking"
    """It looks for a provider, and asks again before it reads the origin."""
    CLAIMING = "claiming"
    """It reads the origin next, unless another replica does."""
    READING = "reading"
    """It reads the origin."""
    COPYING = "copying"
    """It copies the file from another replica, so no replica may wait for its next piece."""


class CopyReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one replica has of a file that is wanted there."""

    task_id: str
    stage: Stage
    whole: bool = False
    """It has all of the file, verified."""
    generation: str = ""
    """Empty: it has nothing yet."""
    piece_size: int = 0
    length: int | None = None
    etag: str = ""
    last_modified: str = ""
    digest: str = ""
    """``sha256:`` of the whole file, once it has all of it."""
    cached: str = ""
    """The pieces that it can serve now, as ranges."""
    origin_bytes: int = 0
    """Bytes of body read from the origin for it."""
    failure: Failure | None = None

    def __post_init__(self) -> None:
        """Check the report of another process. Raises :class:`ValueError`."""
        if not _GENERATION.fullmatch(self.generation) or self.piece_size < 0 or (self.length or 0) < 0:
            raise ValueError("The report's generation, piece size or length is not valid.")
        if bool(self.generation) != bool(self.piece_size):
            raise ValueError("The report must have both a generation and a piece size, or neither.")
        ranges.parse(self.cached)
        if self.digest:
            digest.parse(self.digest)


class Act(Enum):
    """What to do next."""

    TAKE = auto()
    """Copy from the provider."""
    READ = auto()
    """Read the origin."""
    CLAIM = auto()
    """Show that the origin is read next, and ask again."""
    WANT = auto()
    """Request the file from the owner, and ask again."""
    WAIT = auto()
    """Ask again in a moment, without a claim."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, and with which replica."""

    act: Act
    provider: str | None = None
    end: int | None = None
    """The byte after the last one that the provider has; ``None``: it provides all up to the end of the file."""


@dataclass(frozen=True, slots=True)
class Need:
    """What this replica is about to fetch."""

    name: str
    """This replica's name."""
    owner: str | None = None
    """The other replica that should read the origin; ``None``: this one may."""
    claimed: bool = False
    """It was :attr:`Stage.CLAIMING` before it asked."""
    generation: str = ""
    """Of its own pieces; empty: it has none."""
    offset: int = 0
    """The first byte that it lacks of that generation."""
    pinned: bool = False
    """The content's digest is known. A part of a copy is then useful without an ETag."""


def decide(need: Need, said: Mapping[str, CopyReport | None]) -> Decision:
    """Decide by the reports of all replicas that could be reached; ``None``: it has nothing of the file."""
    reports = {name: report for name, report in said.items() if report is not None}
    best = _best_provider(need, reports)
    if best is not None:
        return best
    if any(report.stage is Stage.READING for report in reports.values()):
        return Decision(Act.WAIT)  # the origin has not answered it yet
    if need.owner in said:
        return Decision(Act.WANT, need.owner)
    claims = [name for name, report in reports.items() if report.stage is Stage.CLAIMING]
    if any(name < need.name for name in claims):
        return Decision(Act.WAIT)
    return Decision(Act.CLAIM if claims or not need.claimed else Act.READ)


def _best_provider(need: Need, reports: Mapping[str, CopyReport]) -> Decision | None:
    """The replica that has all of the file, else the one that reads it, else the one with the most useful part."""
    able = {name: report for name, report in reports.items() if report.generation}
    ordered = sorted(able, key=lambda name: (able[name].generation != need.generation, name))
    for name in ordered:
        if able[name].whole:
            return Decision(Act.TAKE, name)
    for name in ordered:
        if able[name].stage is Stage.READING:
            return Decision(Act.TAKE, name)
    parts = {name: _part(need, able[name]) for name in ordered}
    best = max(ordered, key=lambda name: parts[name], default=None)
    return Decision(Act.TAKE, best, parts[best]) if best is not None and parts[best] > need.offset else None


def _part(need: Need, report: CopyReport) -> int:
    """The byte up to which another replica's pieces continue ours without a gap."""
    named = report.etag or report.last_modified or need.pinned
    if not named or report.length is None or need.generation not in ("", report.generation):
        return 0
    offset = need.offset if need.generation else 0
    held = ranges.parse(report.cached) >> offset // report.piece_size
    run = (~held & held + 1).bit_length() - 1
    return min((offset // report.piece_size + run) * report.piece_size, report.length) if run else 0
