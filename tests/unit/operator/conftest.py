"""An operator with two nodes, stopped and running."""

from collections.abc import AsyncIterator

import pytest

from tests.support.console_desk import Desk
from tests.support.prefetch_stage import IMAGE, NODES, PrefetchStage, resolved


@pytest.fixture
async def stopped() -> PrefetchStage:
    made = PrefetchStage(progress_interval=0.2, namespace="home")
    await made.connect(*NODES)
    made.supernode.registry[IMAGE] = resolved()
    return made


@pytest.fixture
async def world(stopped: PrefetchStage) -> AsyncIterator[PrefetchStage]:
    """An operator runs."""
    async with stopped.operator():
        yield stopped


@pytest.fixture
async def desk() -> Desk:
    return Desk()
