"""``kubectl pantala top`` and ``explain`` with the console of a real operator, while files move on slow links."""

import asyncio
import contextlib
import json
import operator
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import pytest_asyncio

from testbed.origin import Behaviour, Generated
from tests.support.console_lab import ConsoleLab, console_lab
from tests.support.eventually import eventually
from tests.support.product_stage import MIB, NODES

pytestmark = [pytest.mark.controlplane, pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

SIZE = 48 * MIB


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ConsoleLab]:
    folder: Path = tmp_path_factory.mktemp("cli-console")
    async with console_lab(folder, dict.fromkeys(NODES, "z"), "--serve-rate", "8Mi", "--origin-rate", "3Mi") as made:
        yield made


async def start(lab: ConsoleLab, *arguments: str) -> asyncio.subprocess.Process:
    environment = os.environ | {
        "KUBECONFIG": str(lab.stage.control_plane.kubeconfig), "PANTALA_CONSOLE": lab.url, "COLUMNS": "200",
    }  # fmt: skip
    return await asyncio.create_subprocess_exec(
        sys.executable, "-u", "-m", "pantala_cli", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment, limit=64 * MIB,
    )  # fmt: skip


async def run(lab: ConsoleLab, *arguments: str) -> str:
    process = await start(lab, *arguments)
    out, err = await process.communicate()
    assert (0, b"") == (process.returncode, err)
    return out.decode()


def rates(sample: dict[str, Any]) -> tuple[int, int, int]:
    """From the origin, from the supernode and from peers."""
    traffic = sample["console"]["traffic"]
    return traffic["origin_rate"], traffic["supernode_rate"], traffic["peers_rate"]


async def test_the_rates_and_the_time_left_of_top_are_right(lab: ConsoleLab) -> None:
    top = await start(lab, "top", "-o", "json", "--interval", "1")
    assert top.stdout is not None
    samples: list[dict[str, Any]] = [json.loads(await top.stdout.readline())]
    ends: list[tuple[float, float]] = []
    """When a sample came, and when the Task seemed to end then."""

    async def read() -> None:
        while line := await top.stdout.readline():  # type: ignore[union-attr]
            samples.append(json.loads(line))
            now = time.monotonic()
            ends.extend((now, now + task["eta"]) for task in samples[-1]["console"]["tasks"] if task.get("eta"))

    reading = asyncio.create_task(read())
    lab.stage.origin.serve("/large", Generated(SIZE, seed=5))
    began = time.monotonic()
    await lab.stage.apply("large", lab.stage.origin.url("/large"))
    await eventually(lambda: any(rates(samples[-1])))
    shown = await run(lab, "top", "--once")
    assert "default/large" in shown
    assert "node-" in shown
    await lab.stage.ready("large", seconds=60)
    ended = time.monotonic()
    await eventually(lambda: not any(rates(samples[-1])))
    top.send_signal(signal.SIGINT)
    assert 130 == await top.wait()
    with contextlib.suppress(asyncio.CancelledError):
        await reading
    spans = [after["console"]["at"] - before["console"]["at"] for before, after in pairwise(samples)]
    origin, *nodes = (sum(map(operator.mul, each, spans)) for each in zip(*map(rates, samples[1:]), strict=True))
    assert sum(nodes) == pytest.approx(len(NODES) * SIZE, rel=0.05), samples
    assert origin == pytest.approx(SIZE, rel=0.05), samples
    late = [end - ended for at, end in ends if began + 5 < at < ended]
    assert len(late) > 5
    assert median(map(abs, late)) < 0.25 * (ended - began), late
    details = [detail for sample in samples for detail in sample["details"] if detail["nodes"]]
    by_node = dict.fromkeys(NODES, 0)
    for detail in details:
        for node in detail["nodes"]:
            by_node[node["name"]] += node["rate"]
    assert all(rate > 0 for rate in by_node.values()), by_node


async def test_explain_and_get_show_what_the_operator_knows(lab: ConsoleLab) -> None:
    lab.stage.origin.serve("/missing", Generated(MIB), always=Behaviour(status=404))
    await lab.stage.apply("missing", lab.stage.origin.url("/missing"))
    await lab.stage.says("missing", "SourceNotFound")
    shown = await run(lab, "explain", "task/missing")
    assert "Task default/missing: not ready (SourceNotFound)" in shown
    assert 1 == shown.count("next: Check the URL, and correct it in a new Task if it is wrong."), shown
    wide = (await run(lab, "get", "tasks", "-o", "wide")).splitlines()
    assert ["FETCHING", "WAITING", "LATE", "FAILED"] == wide[0].split()[8:12]
    assert {"large", "missing"} == {line.split()[0] for line in wide[1:]}
