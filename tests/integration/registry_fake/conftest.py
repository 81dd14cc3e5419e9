"""A scripted registry, its token server, and the service that uses them."""

from collections.abc import AsyncIterator

import pytest

from tests.support.fake_registry import Clock, FakeRegistry, TokenServer, service
from tests.support.registry_lab import RegistryLab


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as made:
        made.push("1", ["linux/amd64", "linux/arm64"])
        yield made


@pytest.fixture
async def lab(registry: FakeRegistry) -> AsyncIterator[RegistryLab]:
    clock = Clock()
    async with service(clock=clock) as opened:
        yield RegistryLab(registry, opened, clock)


@pytest.fixture
async def tokens(registry: FakeRegistry) -> AsyncIterator[TokenServer]:
    async with TokenServer() as made:
        registry.tokens = made
        yield made
