"""Makes the screenshots of the console's page: ``make screenshots``. A whole product with nine nodes runs for them."""

import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path

from testbed.browser import BrowserPage
from testbed.origin import Behaviour, Generated
from tests.support.console_lab import ConsoleLab, console_lab, showing
from tests.support.product_stage import MIB, ROOT

FOLDER = ROOT / "docs" / "images"
_LETTERS = "abc"
ZONES = {f"node-{letter}{number}": f"eu-west-1{letter}" for letter in _LETTERS for number in (1, 2, 3)}


async def _apply(lab: ConsoleLab) -> None:
    """Some finished Tasks, one that fails, and two large ones on slow links."""
    origin = lab.stage.origin
    for number, (name, size) in enumerate({"tokenizer": 6, "embeddings-v2": 20, "reranker": 14}.items()):
        origin.serve(f"/{name}", Generated(size * MIB, seed=number))
        await lab.stage.apply(name, origin.url(f"/{name}"))
    origin.serve("/gone", Generated(MIB), always=Behaviour(status=404))
    await lab.stage.apply("weights-of-last-week", origin.url("/gone"))
    await lab.stage.ready("tokenizer", "embeddings-v2", "reranker", seconds=90)
    for number, (name, size) in enumerate({"llama-70b-shard-00001-of-00015": 144, "imagenet-validation": 48}.items()):
        origin.serve(f"/{name}", Generated(size * MIB, seed=10 + number))
        await lab.stage.apply(name, origin.url(f"/{name}"))


async def _picture(page: BrowserPage, name: str, route: str, *, pause: float = 1.5) -> None:
    await page.run(f"location.hash = {route!r}")
    await asyncio.sleep(pause)
    (FOLDER / f"{name}.png").write_bytes(await page.screenshot())
    print(f"docs/images/{name}.png", file=sys.stderr)


async def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pantala-screenshots-") as folder:
        flags = ("--serve-rate", "6Mi", "--origin-rate", "10Mi")
        async with console_lab(Path(folder) / "lab", ZONES, *flags) as lab, showing(lab, 1440, 860) as page:
            await _apply(lab)
            await asyncio.sleep(6)
            large = "#/tasks/default/llama-70b-shard-00001-of-00015"
            await _picture(page, "console-tasks", "#/")
            await _picture(page, "console-swarm", "#/swarm")
            await _picture(page, "console-task", large)
            os.kill(lab.stage.processes["node-b2"].pid, signal.SIGSTOP)
            await page.prefer("dark")
            await _picture(page, "console-tasks-dark", "#/")
            await _picture(page, "console-swarm-dark", "#/swarm")
            await page.prefer("light")
            await page.run(f"location.hash = {large!r}")
            await page.until("document.querySelector('tr[data-mood=late]')", 20)
            await _picture(page, "console-late", large)
            os.kill(lab.stage.processes["node-b2"].pid, signal.SIGCONT)
            await _picture(page, "console-peers", "#/peers")
            await page.resize(420, 860)
            await _picture(page, "console-narrow", "#/")


if __name__ == "__main__":
    asyncio.run(main())
