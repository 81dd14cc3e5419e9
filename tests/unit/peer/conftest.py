"""A peer's cache on a disk."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pantala_peer.cache.pieces import PieceCache


@pytest.fixture
async def cache(tmp_path: Path) -> AsyncIterator[PieceCache]:
    made = PieceCache(tmp_path / "cache")
    await made.open()
    yield made
    made.close()
