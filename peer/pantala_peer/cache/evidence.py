"""What this process knows about the content of one file on the disk, in addition to the verified pieces."""

from dataclasses import dataclass, field

from pantala_pieces.digests import RunningDigest
from pantala_pieces.errors import store_errors
from pantala_pieces.file import PieceFile
from pantala_pieces.verification import FileVerdict, Finding
from pantala_protocol.geometry import Geometry


@dataclass(slots=True)
class Evidence:
    """What is known about one file."""

    running: RunningDigest = field(default_factory=RunningDigest)
    expected: str = ""
    """The whole file's digest according to the supernode. Empty: not known yet."""
    checked: float = 0.0
    """When this process last verified the whole file, in seconds since the epoch. 0: never."""
    signature: tuple[int, int] | None = None
    """The file's size and modification time when the file became complete. ``None``: it is not complete."""
    changed: bool = False
    """True if the signature has changed, because a program wrote to the file or set its modification time."""
    wrong: int | None = None
    """The pieces that the scrub found wrong, as a bit mask. ``None``: the scrub did not find the file wrong."""
    contradicted: str = ""
    """A digest from the supernode that the file does not have, although each of its pieces is right."""

    def whole(self, file: PieceFile) -> str | None:
        """The digest of a whole file, if it is known without reading the file again."""
        return self.running.of(Geometry(file.meta.piece_size, file.meta.length or 0).pieces)

    def take(self, digest: str, finding: Finding) -> None:
        """Record the finding of a scrub."""
        if finding.verdict is FileVerdict.ROTTEN:
            self.wrong = finding.wrong
        elif finding.verdict is FileVerdict.CONTRADICTED:
            self.contradicted = digest

    def look(self, file: PieceFile) -> None:
        """Compare the file's signature with the former signature."""
        with store_errors(f"read the state of {file.path}"):
            status = file.path.stat()
        found = status.st_size, status.st_mtime_ns
        self.changed = self.changed or (self.signature is not None and self.signature != found)
        self.signature = found

    @property
    def in_service(self) -> bool:
        """False if the file is known to be wrong."""
        return self.wrong is None and (not self.contradicted or self.contradicted != self.expected)
