"""The fence against operators that no longer lead. It is on the volume, so that it also holds after a restart."""

from pathlib import Path

import msgspec
import structlog

from pantala_pieces.errors import StoreError
from pantala_pieces.writing import write_atomically
from pantala_supernode.errors import ConflictError

_log = structlog.get_logger(__name__)


class StoredEpoch(msgspec.Struct, frozen=True):
    """The content of ``epoch.json``."""

    epoch: int


class EpochFence:
    """Refuses statements with an older epoch than the greatest one accepted so far.

    Statements without an epoch (0) come from an operator without a lease, which runs alone. They pass.
    """

    def __init__(self, path: Path | None = None) -> None:
        """``path``: the file with the epoch. ``None``: it is kept in memory only. A file that is not valid counts as 0.

        Then the fence is open until the next statement. The former leader's own clock still holds it back.
        """
        self._path = path
        self.epoch = 0
        """The greatest epoch that was accepted."""
        if path is not None and path.is_file():
            try:
                self.epoch = msgspec.json.decode(path.read_bytes(), type=StoredEpoch).epoch
            except (OSError, msgspec.DecodeError) as error:
                _log.warning("the epoch on the volume cannot be read; it counts as 0", error=str(error))

    def check(self, epoch: int) -> None:
        """Raises :class:`ConflictError` for an older epoch."""
        if 0 < epoch < self.epoch:
            raise ConflictError(
                f"another operator leads since epoch {self.epoch}, so the statement of epoch {epoch} is refused. "
                "The sender must read its Lease again"
            )

    def accept(self, epoch: int) -> None:
        """Remember a greater epoch. It blocks for one write, once for each new leader."""
        if epoch <= self.epoch:
            return
        self.epoch = epoch
        if self._path is not None:
            try:
                write_atomically(self._path, msgspec.json.encode(StoredEpoch(epoch)))
            except StoreError as error:  # a full volume must not stop the operator
                _log.warning("the epoch is not on the volume; after a restart it is not known", error=str(error))
