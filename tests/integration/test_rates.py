"""The rates that ``kubectl pantala top`` and the web page show add up to the bytes that were moved.

The whole product distributes 256 MiB on shaped links, and the test reads the rates as a user does: as rounded texts.
"""

import asyncio
import contextlib
import os
import re
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bench.catalog import SCENARIOS
from testbed.browser import BrowserPage, available, browsing
from testbed.process import free_ports
from tests.support.eventually import eventually
from tests.support.product_stage import MIB, NODES
from tests.support.shaped_stage import ShapedStage, shaped_network

pytestmark = [
    pytest.mark.controlplane,
    pytest.mark.alone,
    pytest.mark.timeout(180),
    pytest.mark.skipif(bool(SCENARIOS["data"].lacks()), reason=SCENARIOS["data"].lacks()),
    pytest.mark.skipif(not available(), reason="Chromium is not installed, and only root can install it"),
]

SIZE = 256 * MIB
MEGABITS = 140
TASK = "large"
FIRST = 5.0
"""Seconds after which the time left must be plausible."""
SOURCES = ("origin", "supernode", "peers")
_UNITS = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


@dataclass
class Shown:
    """The samples of one place where rates are shown, each with its time."""

    samples: list[tuple[float, dict[str, float]]] = field(default_factory=list)
    times: list[tuple[float, float]] = field(default_factory=list)
    """When the task seemed to end, and when that was shown."""

    def add(self, rates: dict[str, float], left: str = "-") -> None:
        now = time.monotonic()
        self.samples.append((now, rates))
        if found := re.fullmatch(r"(\d+)\s?(s|m|min)( (\d+)\s?s)?", left):
            self.times.append((now, now + int(found[1]) * (1 if found[2] == "s" else 60) + int(found[4] or 0)))

    def sums(self) -> dict[str, float]:
        """The bytes by source: between two samples, the rate is their mean."""
        found = dict.fromkeys(SOURCES, 0.0)
        for (at, rates), (following, next_rates) in zip(self.samples, self.samples[1:], strict=False):
            for source in SOURCES:
                found[source] += (rates[source] + next_rates[source]) / 2 * (following - at)
        return found


def number(text: str) -> float:
    """The value of ``12.5Mi/s``, ``12.5 MiB/s``, ``-`` or ``0``."""
    found = re.fullmatch(r"([0-9.]+)\s*([KMG]i)?B?(/s)?", text.strip())
    return float(found[1]) * _UNITS[found[2] or ""] if found else 0.0


async def read_top(console: str, total: Shown, task: Shown) -> None:
    """Read the first line of each block of ``top``, and the Task's line, until cancelled."""
    program = Path(sys.executable).with_name("kubectl-pantala")
    command = (str(program), "top", "--interval", "1", "--console", console)
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    try:
        assert process.stdout is not None
        while line := (await process.stdout.readline()).decode():
            cells = re.split(r"  +", line.strip())
            if cells[0].startswith("origin "):
                rates = zip(SOURCES, cells[:3], strict=True)
                total.add({source: number(cell.removeprefix(source)) for source, cell in rates})
            elif cells[0] == f"default/{TASK}":
                task.add({source: number(cell) for source, cell in zip(SOURCES, cells[3:6], strict=True)}, cells[6])
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


LOOK = """[
  ...["origin", "supernode", "peers"].map((each) => document.querySelector(`#rate-${each}`)?.textContent ?? ""),
  ...["rate", "eta"].map((each) => document.querySelector(`#view [data-cell="${each}"]`)?.textContent ?? ""),
]"""


async def read_page(page: BrowserPage, total: Shown, task: Shown) -> None:
    """Read the tile of rates and the Task's row of the page once a second, until cancelled."""
    following = time.monotonic()
    while True:
        *rates, row, left = await page.run(LOOK)
        total.add({source: number(text) for source, text in zip(SOURCES, rates, strict=True)})
        task.add({"origin": 0.0, "supernode": 0.0, "peers": number(row)}, left)
        following = max(following + 1, time.monotonic())
        await asyncio.sleep(following - time.monotonic())


async def test_the_rates_of_top_and_of_the_page_add_up_to_the_bytes(tmp_path: Path) -> None:
    made_file(tmp_path / "files" / "large.bin")
    shown = {name: Shown() for name in ("top", "top's task", "page", "page's task")}
    with shaped_network() as network:
        async with ShapedStage(tmp_path / "stage", network, MEGABITS) as stage:
            console = await started(stage)
            url = stage.serve(tmp_path / "files")
            async with browsing() as page, reading(page, console, shown):
                began = time.monotonic()
                await stage.apply(TASK, f"{url}/large.bin")
                await stage.ready(TASK, seconds=90)
                ended = time.monotonic()
                await eventually(lambda: at_rest(shown), within=20, every=0.2, what="nothing moves any more")
            moved = stage.status(TASK)["bytes"]
    bytes_by_source = {"origin": moved["origin"], "supernode": moved["fromSupernode"], "peers": moved["fromPeers"]}
    for name, each in shown.items():
        print(name, len(each.samples), {source: round(amount / MIB, 1) for source, amount in each.sums().items()})
    assert (SIZE, 3 * SIZE) == (moved["origin"], moved["fromSupernode"] + moved["fromPeers"])
    assert [] == page.errors
    for name in ("top", "page"):
        assert bytes_by_source == pytest.approx(shown[name].sums(), rel=0.05), name
    assert bytes_by_source == pytest.approx(shown["top's task"].sums(), rel=0.05)
    assert 3 * SIZE == pytest.approx(sum(shown["page's task"].sums().values()), rel=0.05)
    for name in ("top's task", "page's task"):
        late = [end - ended for at, end in shown[name].times if began + FIRST < at < ended]
        assert len(late) > 5, name
        assert max(map(abs, late)) < 0.4 * (ended - began), f"{name}: {late}"


def made_file(path: Path) -> None:
    path.parent.mkdir()
    with path.open("wb") as file:
        for _ in range(SIZE // MIB):
            file.write(os.urandom(MIB))


async def started(stage: ShapedStage) -> str:
    """Start all processes, and wait until the peers are ready. Returns the console's URL."""
    [port] = free_ports(1)
    stage.supernode()
    for name in NODES:
        stage.peer(name)
    stage.operator("--console-listen", f"127.0.0.1:{port}")
    await eventually(lambda: peers_ready(stage), within=30, every=0.2, what="all peers are ready")
    return f"http://127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def reading(page: BrowserPage, console: str, shown: dict[str, Shown]) -> AsyncIterator[None]:
    """Read both places where rates are shown, from before the block until its end."""
    await page.open(console)
    await page.until("document.querySelector('#link').dataset.state === 'live'")
    async with asyncio.TaskGroup() as group:
        readers = (
            group.create_task(read_top(console, shown["top"], shown["top's task"])),
            group.create_task(read_page(page, shown["page"], shown["page's task"])),
        )
        await eventually(lambda: shown["top"].samples and shown["page"].samples, within=20, every=0.1)
        yield
        for reader in readers:
            reader.cancel()


def at_rest(shown: dict[str, Shown]) -> bool:
    """True if the last sample of each place has no rate."""
    return not any(any(shown[name].samples[-1][1].values()) for name in ("top", "page"))


async def peers_ready(stage: ShapedStage) -> bool:
    peers = (await stage.ask("GET", "/apis/pantala.dev/v1alpha1/peers"))["items"]
    ready: int = sum(
        each["type"] == "Ready" and each["status"] == "True"
        for peer in peers
        for each in peer.get("status", {}).get("conditions", ())
    )
    return ready == len(NODES)
