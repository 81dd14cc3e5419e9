"""One task's copy on the supernode: what the CDN must fetch, and how far the CDN is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from pantala_protocol.geometry import Geometry
from pantala_protocol.redaction import RedactedURL
from pantala_protocol.statement import CDNStatus, Failure
from pantala_protocol.task_id import TaskID


@dataclass(frozen=True, slots=True, repr=False)
class FileSource:
    """One file to fetch: from which URL, and how."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Headers for the origin, with values as in :mod:`pantala_protocol.rules.headers`. They are sent only to the
    origin's host. They may contain secrets, and are never shown."""
    digest: str | None = None
    """The expected ``sha256:``, ``sha512:`` or ``md5:`` of the whole file. ``None``: any content is accepted."""
    attempt: str = ""
    """If it changes, the CDN tries again after a failure, and counts the retries from zero."""
    priority: int = 0
    """Copies with a higher priority are fetched first."""
    pod_identity: bool = False
    """True for a blob of an image that is read with the supernode's cloud identity, and not with a header."""
    tenants: frozenset[str] = frozenset()
    """The namespaces that want the file. They decide its share, but do not change the request."""
    origin: str = ""
    """For a blob of an image: its repository, as ``registry/repository``. An incomplete copy uses one repository."""
    client: str = ""
    """For a blob of an image: a keyed hash of the client whose credential the request uses. Empty: not known."""

    def __repr__(self) -> str:
        return f"<FileSource {RedactedURL(self.url)}>"


@dataclass(frozen=True, slots=True)
class FetchOrder:
    """An order to the CDN to complete the copy of one task."""

    task_id: TaskID
    source: FileSource
    retry_limit: int | None = None
    """How many temporary failures of the origin are retried. ``None``: no limit."""
    claims: frozenset[str] = frozenset()
    """The UIDs of the Task resources that want the copy."""
    stale_will_do: bool = False
    """True if a former copy may be used while the origin cannot confirm that it is current."""


@dataclass(frozen=True, slots=True)
class Copy:
    """The state of a copy at one moment."""

    task_id: TaskID
    status: CDNStatus = CDNStatus.WAITING
    generation: str = ""
    """The generation of the pieces. Empty: no piece has arrived yet."""
    piece_size: int = 0
    length: int | None = None
    cached: int = 0
    """The pieces that are durable and verified, as a bit mask."""
    digest: str = ""
    """``sha256:`` of the whole file. Empty until the whole file is there and verified."""
    origin_bytes: int = 0
    """Bytes of bodies that were read from the origin for this copy."""
    failure: Failure | None = None
    """The failure of the last try. If it is ``final``, the next try does not follow soon."""
    failed_source: FileSource | None = None
    """The source that failed, if there is a failure. A former order may have named it."""
    attempt: str = ""
    """The ``attempt`` of the current order."""
    retry_at: float = 0.0
    """Before this time, in monotonic seconds, the origin wants no further request."""
    origins: tuple[str, ...] = ()
    """For a blob of an image: the repositories that are evidence for its bytes. See ``rules.rights``."""
    client: str = ""
    """The :attr:`FileSource.client`, if all bytes were sent for this client. Empty: several clients, or not known."""

    @property
    def total(self) -> int | None:
        """How many pieces the file has. ``None``: not known yet."""
        if self.length is None or not self.piece_size:
            return None
        return Geometry(self.piece_size, self.length).pieces

    @property
    def given_up(self) -> bool:
        """True if the CDN could not get the file and does not try again soon."""
        return self.status is CDNStatus.FAILED and self.failure is not None and self.failure.final


class CopyPhase(Enum):
    """The phase of a copy. Only the CDN changes it; :data:`TRANSITIONS` lists the phases that may follow each."""

    FOUND = auto()
    """No task has wanted the copy since the start. The volume may have it from an earlier process."""
    WAITING = auto()
    """A task wants the copy. No byte has arrived yet."""
    RUNNING = auto()
    """A task wants the copy. Bytes arrive."""
    RETRYING = auto()
    """A task wants the copy. The last try failed, and another try follows by itself."""
    FAILED = auto()
    """A task wants the copy. The last try failed, and no other try follows without a new ``attempt``."""
    PAUSED = auto()
    """All Task resources that want the copy are suspended. The pieces on the volume stay."""
    SUCCESS = auto()
    """A task wants the copy. All pieces are on the volume and verified."""
    RELEASED = auto()
    """No task wants the copy any more. The pieces on the volume stay as a cache."""
    REMOVED = auto()
    """The copy was deleted."""

    @property
    def status(self) -> CDNStatus:
        """The status for reports. A complete copy has ``SUCCESS`` even if no task wants it."""
        return _STATUS.get(self, CDNStatus.WAITING)


_STATUS = {
    CopyPhase.RUNNING: CDNStatus.RUNNING,
    CopyPhase.RETRYING: CDNStatus.FAILED,
    CopyPhase.FAILED: CDNStatus.FAILED,
    CopyPhase.SUCCESS: CDNStatus.SUCCESS,
}

_END = frozenset({CopyPhase.RELEASED, CopyPhase.REMOVED})
_WORK = frozenset({CopyPhase.WAITING, CopyPhase.RUNNING, CopyPhase.RETRYING, CopyPhase.FAILED, CopyPhase.SUCCESS})

TRANSITIONS: Mapping[CopyPhase, frozenset[CopyPhase]] = {
    CopyPhase.FOUND: frozenset({CopyPhase.WAITING, CopyPhase.SUCCESS}) | _END,
    CopyPhase.WAITING: _WORK | _END | {CopyPhase.PAUSED},
    CopyPhase.RUNNING: _WORK | _END | {CopyPhase.PAUSED},
    CopyPhase.RETRYING: _WORK | _END | {CopyPhase.PAUSED},
    CopyPhase.FAILED: _WORK | _END,
    CopyPhase.PAUSED: frozenset({CopyPhase.WAITING, CopyPhase.SUCCESS}) | _END,
    CopyPhase.SUCCESS: frozenset({CopyPhase.WAITING}) | _END,
    CopyPhase.RELEASED: frozenset({CopyPhase.WAITING, CopyPhase.SUCCESS, CopyPhase.REMOVED}),
    CopyPhase.REMOVED: frozenset(),
}
"""The phases that may follow each phase. All other changes are ignored, because a cancelled worker may report late."""
