"""A CDN and a real origin."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from testbed.origin import Origin
from tests.support.cdn import CDNBench
from tests.support.cdn_origin import bench


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as origin:
        yield origin


@pytest.fixture
async def b(tmp_path: Path) -> AsyncIterator[CDNBench]:
    async with bench(tmp_path) as b:
        yield b
