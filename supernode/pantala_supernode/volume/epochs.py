"""The fence against operators that no longer lead. It is on the volume, so that it also holds after a restart."""

from pathlib import Path

import msgspec
import structlog

from pantala_pieces import records
from pantala_pieces.errors import StoreError
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
        if path is not None:
            try:
                self.epoch = records.load_pair(path, StoredEpoch).epoch
            except FileNotFoundError:
                pass
            except (OSError, records.RecordError) as error:
                _log.warning("the epoch on the volume cannot be read; it counts as 0", error=str(error))

    def check(self, epoch: int) -> None:
        """Raises :class:`ConflictError` for an older epoch."""
        if 0 < epoch < self.epoch:
            raise ConflictError(
                f"another operator leads since epoch {self.epoch}, so the statement of epoch {epoch} is refused. "
                "The operator must read its Lease again"
            )

    def accept(self, epoch: int) -> None:
        """Remember a greater epoch. It blocks for one write, once for each new leader."""
        if epoch <= self.epoch:
            return
        self.epoch = epoch
        if self._path is not None:
            try:
                records.store_pair(self._path, StoredEpoch(epoch))
            except StoreError as error:  # a full volume must not stop the operator
                _log.warning("the epoch is not on the volume; after a restart it is not known", error=str(error))
