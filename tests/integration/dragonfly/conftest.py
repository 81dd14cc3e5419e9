"""A supernode for Dragonfly's clients."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.dragonfly_stage import DragonflyStage


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[DragonflyStage]:
    async with DragonflyStage(tmp_path) as stage:
        yield stage
