"""Decides which replica reads an origin if several need the file, and from which replica the others copy it. Pure.

Each replica shows the others the stage of its work on a file. Before a replica reads the origin, it shows
:attr:`Stage.CLAIMING` and then asks all others for their stages. It reads only if no other replica reads or claims. If
two replicas claim at the same moment, at least one sees the other's claim. If both see it, the lesser name reads.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

import msgspec

from pantala_pieces.meta import validator_of
from pantala_protocol import digest, ranges
from pantala_protocol.geometry import check_size
from pantala_protocol.rules.fields import UNKNOWN, Count, Id, PieceSize, Url, WireWord
from pantala_protocol.statement import Failure

_GENERATION = re.compile("[0-9A-Za-z]{0,64}")


class Stage(WireWord):
    """The stage of a replica's work on a file."""

    IDLE = "idle"
    """The replica does nothing: it has the whole file, pauses after a failure, or does not need the file."""
    ASKING = "asking"
    """The replica looks for another replica that has the file. It does not claim the origin."""
    CLAIMING = "claiming"
    """The replica reads the origin next, unless another replica reads or claims it."""
    READING = "reading"
    """The replica reads the origin."""
    COPYING = "copying"
    """The replica copies the file from another replica. Others may copy its pieces, but must not wait for more."""
    UNKNOWN = UNKNOWN
    """A stage of a newer version. It counts as ``COPYING``."""


class CopyReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one replica has of a file."""

    task_id: Id
    stage: Stage
    whole: bool = False
    """True if the replica has the whole file, and has verified it."""
    generation: Id = ""
    """The generation of the replica's copy. Empty: the replica has nothing yet."""
    piece_size: PieceSize = 0
    length: Count | None = None
    etag: Url = ""
    last_modified: Url = ""
    digest: Id = ""
    """``sha256:`` of the whole file. Empty until the replica has the whole file."""
    cached: str = ""
    """The pieces that the replica can serve now, as ranges such as ``"0-3,7"``."""
    origin_bytes: Count = 0
    """Bytes of bodies that were read from the origin for this copy."""
    failure: Failure | None = None
    origins: tuple[str, ...] = ()
    """For a blob of an image: the repositories that are evidence for its bytes. See ``rules.rights``."""

    def __post_init__(self) -> None:
        """Check the fields, because another process sent them. Raises :class:`ValueError`."""
        if not _GENERATION.fullmatch(self.generation):
            raise ValueError("The replica's report has an invalid generation.")
        if bool(self.generation) != bool(self.piece_size):
            raise ValueError("The replica's report lacks either the generation or the piece size.")
        if self.piece_size:
            check_size(self.piece_size, self.length or 0)
        ranges.parse(self.cached)
        if self.digest:
            digest.parse(self.digest)


class Act(Enum):
    """What a replica that needs a file must do next."""

    TAKE = auto()
    """Copy the file from :attr:`Decision.provider`."""
    READ = auto()
    """Read the origin."""
    CLAIM = auto()
    """Show :attr:`Stage.CLAIMING`, and ask all replicas again."""
    WANT = auto()
    """Ask the owner to fetch the file. Then ask all replicas again."""
    WAIT = auto()
    """Do not claim the origin. Ask all replicas again in a moment."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, and with which replica."""

    act: Act
    provider: str | None = None
    end: int | None = None
    """The end of the bytes that the provider has. ``None``: the provider has, or will have, the whole file."""


@dataclass(frozen=True, slots=True)
class Need:
    """What this replica needs of a file."""

    name: str
    """This replica's name."""
    owner: str | None = None
    """The other replica that should read the origin. ``None``: this replica may read the origin."""
    claimed: bool = False
    """True if this replica showed :attr:`Stage.CLAIMING` before it asked the others."""
    generation: str = ""
    """The generation of this replica's own pieces. Empty: this replica has no piece."""
    offset: int = 0
    """The first byte of that generation that this replica lacks."""
    pinned: bool = False
    """True if the file's expected digest is known. Then a part of a copy is useful even without an ETag."""


def decide(need: Need, said: Mapping[str, CopyReport | None]) -> Decision:
    """Decide from the reports of all replicas that answered, by name. ``None``: a replica has no useful copy."""
    reports = {name: report for name, report in said.items() if report is not None}
    best = _best_provider(need, reports)
    if best is not None:
        return best
    if any(report.stage is Stage.READING for report in reports.values()):
        return Decision(Act.WAIT)  # the origin has not answered that replica yet
    if need.owner in said:
        return Decision(Act.WANT, need.owner)
    claims = [name for name, report in reports.items() if report.stage is Stage.CLAIMING]
    if any(name < need.name for name in claims):
        return Decision(Act.WAIT)
    return Decision(Act.CLAIM if claims or not need.claimed else Act.READ)


def _best_provider(need: Need, reports: Mapping[str, CopyReport]) -> Decision | None:
    """A replica with the complete file, or a replica that reads the origin, or the replica with most further bytes."""
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
    """The position up to which another replica's pieces continue this replica's pieces without a gap."""
    named = validator_of(report.etag, report.last_modified) or need.pinned
    if not named or report.length is None or need.generation not in ("", report.generation):
        return 0
    offset = need.offset if need.generation else 0
    held = ranges.parse(report.cached) >> offset // report.piece_size
    run = (~held & held + 1).bit_length() - 1
    return min((offset // report.piece_size + run) * report.piece_size, report.length) if run else 0
