"""Copies that other replicas read."""

from pathlib import Path

import pytest

from pantala_pieces.meta import Meta
from pantala_pieces.store import PieceStore
from pantala_supernode.replicas.copies import CopyEndedError, CopyServer
from pantala_supernode.replicas.decision import Stage
from pantala_supernode.replicas.membership import ReplicaSet
from tests.unit.supernode.conftest import ID, Bench, Leases


async def test_a_copy_ends_at_a_piece_that_was_forgotten_a_moment_ago(
    bench: Bench, leases: Leases, tmp_path: Path
) -> None:
    """The task still counts the piece, while the volume has forgotten it as damaged."""
    bench.lease()
    bench.cached(4)
    store = PieceStore(tmp_path, durable=False)
    store.open()
    store.create(Meta(ID, "g", 10, 40))
    copies = CopyServer(
        leases,
        bench.managers.tasks,
        store,
        ReplicaSet(),
        stage=lambda _: Stage.IDLE,
        accuse=lambda *_: None,
        clock=bench.clock,
    )
    with pytest.raises(CopyEndedError, match="piece 0"):
        _ = [chunk async for chunk in copies.content(ID, "g", 0, 10)]
