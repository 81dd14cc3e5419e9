"""The program of ``helm test`` with a real API server, operator, supernode and peers."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from testbed.process import free_ports
from tests.support.product_stage import NODES, ProductStage


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[ProductStage]:
    async with ProductStage(tmp_path) as stage:
        stage.supernode()
        stage.operator()
        for name in NODES:
            stage.peer(name)
        await stage.joined()
        yield stage


async def test_a_trial_brings_its_file_to_all_nodes_and_leaves_nothing(stage: ProductStage) -> None:
    (port,) = free_ports(1)
    flags = ["--namespace=default", "--name=pantala-test", f"--url=http://127.0.0.1:{port}/file", f"--port={port}"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pantala_operator.hooks.trial", *flags, "--seconds=60"),
        env={**os.environ, "KUBECONFIG": str(stage.control_plane.kubeconfig)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 90)
    assert (0, True) == (process.returncode, b"3 of 3 nodes" in output), output.decode()
    assert "" == await asyncio.to_thread(stage.control_plane.kubectl, "get", "tasks.pantala.dev", "-o", "name")
