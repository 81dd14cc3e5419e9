"""Fixtures of several integration tests."""

import asyncio
from collections.abc import Iterator

import pytest

from testbed.containerd import Containerd
from testbed.registry import Registry
from tests.support.containerd_node import ContainerdNode
from tests.support.containerds import EACH, Helper
from tests.support.registry_images import ACCOUNTS


@pytest.fixture(scope="module", params=EACH)
def processes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerdNode]:
    folder = tmp_path_factory.mktemp("node")
    with (
        Registry(folder / "open") as registry,
        Registry(folder / "private", accounts=ACCOUNTS) as private,
        Containerd(folder / "containerd", request.param) as containerd,
        Helper(folder, containerd) as helper,
    ):
        asyncio.run(helper.ready())
        yield ContainerdNode(containerd, helper, registry, private, folder)


@pytest.fixture
def node(processes: ContainerdNode) -> ContainerdNode:
    """A node without images. All tests of a module share its processes."""
    processes.clear()
    return processes
