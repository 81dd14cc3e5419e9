"""Refuses statements of operators that no longer lead. The epoch is on the volume, so it is known after a restart."""

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
    """Refuses statements with an older epoch than the greatest epoch accepted so far.

    Statements without an epoch (0) come from an operator that runs alone, without a Lease. They are accepted.
    """

    def __init__(self, path: Path | None = None) -> None:
        """``path``: the file with the epoch. ``None``: only in memory. If the file is not valid, the epoch is 0.

        With epoch 0, any statement is accepted. Even so, a former leader stops by its own clock.
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
                _log.warning("cannot read the epoch on the volume; it counts as 0", error=str(error))

    def check(self, epoch: int) -> None:
        """Raise :class:`ConflictError` for an older epoch."""
        if 0 < epoch < self.epoch:
            raise ConflictError(
                f"another operator leads since epoch {self.epoch}, so the statement of epoch {epoch} is refused. "
                "The operator must read its Lease again"
            )

    def accept(self, epoch: int) -> None:
        """Store a greater epoch. Blocks for one write, once for each new leader."""
        if epoch <= self.epoch:
            return
        self.epoch = epoch
        if self._path is not None:
            try:
                records.store_pair(self._path, StoredEpoch(epoch))
            except StoreError as error:  # a full volume must not stop the operator
                _log.warning("cannot write the epoch to the volume; a restart forgets it", error=str(error))
