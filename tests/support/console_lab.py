"""The whole product with the operator's console, and a browser that shows its page."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
import msgspec

from pantala_protocol.console.views import Console, TaskDetail
from testbed.browser import BrowserPage, browsing
from testbed.process import free_ports
from tests.support.eventually import eventually
from tests.support.product_stage import ProductStage

_RECORD = """
window.answers = {};
const original = window.fetch;
window.fetch = async (path, options) => {
  const answer = await original(path, options);
  const text = await answer.text();
  if (answer.ok) window.answers[path] = JSON.parse(text);
  return new Response(text, { status: answer.status });
};
"""
"""Keeps the newest answer of each path, as the page sees it."""


class ConsoleLab:
    """A running product. ``zones`` names its nodes, each with its zone."""

    def __init__(self, stage: ProductStage, url: str, session: aiohttp.ClientSession) -> None:
        self.stage = stage
        self.url = url
        self._session = session

    async def console(self) -> Console:
        return msgspec.json.decode(await self._get(""), type=Console)

    async def task(self, name: str) -> TaskDetail:
        return msgspec.json.decode(await self._get(f"/tasks/default/{name}"), type=TaskDetail)

    async def images(self, name: str) -> TaskDetail:
        return msgspec.json.decode(await self._get(f"/images/default/{name}"), type=TaskDetail)

    async def _get(self, path: str) -> bytes:
        async with self._session.get(f"{self.url}/api/v1/console{path}") as answer:
            body = await answer.read()
            assert 200 == answer.status, body
            return body


@contextlib.asynccontextmanager
async def console_lab(folder: Path, zones: Mapping[str, str], *supernode: str) -> AsyncIterator[ConsoleLab]:
    """Run the product until the end of the block. ``supernode``: more flags of the supernode."""
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    async with ProductStage(folder, tuple(zones)) as stage, aiohttp.ClientSession() as session:
        lab = ConsoleLab(stage, url, session)
        stage.supernode(*supernode)
        for name, zone in zones.items():
            stage.peer(name, "--zone", zone, "--runtime-socket", "none")
        stage.operator("--console-listen", f"127.0.0.1:{port}")

        async def ready() -> bool:
            with contextlib.suppress(aiohttp.ClientError):
                view = await lab.console()
                return [each.ready for each in view.peers] == ["True"] * len(zones)
            return False

        await eventually(ready, within=40, every=0.2, what="the console shows all peers as ready")
        yield lab


@contextlib.asynccontextmanager
async def showing(lab: ConsoleLab, width: int = 1440, height: int = 900) -> AsyncIterator[BrowserPage]:
    """A browser shows the console's page until the end of the block."""
    async with browsing() as page:
        await page.call("Page.addScriptToEvaluateOnNewDocument", source=_RECORD)
        await page.resize(width, height)
        await page.prefer("light")
        await page.open(lab.url)
        await page.until("document.querySelector('#link').dataset.state === 'live'")
        yield page


CONTRAST = """
(() => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const ground = (element) => {
    const layers = [];
    for (let each = element; each; each = each.parentElement) layers.push(rgba(getComputedStyle(each).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const luminance = (color) => {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = color.slice(0, 3).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [a, b] = [luminance(one), luminance(other)];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
  const found = [];
  let checked = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim();
    const element = walker.currentNode.parentElement;
    if (!text || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    if (["SCRIPT", "STYLE", "NOSCRIPT", "title"].includes(element.tagName)) continue;
    const style = getComputedStyle(element);
    const below = ground(element);
    const color = over(rgba(element.namespaceURI.endsWith("svg") ? style.fill : style.color), below);
    checked += 1;
    const contrast = ratio(color, below);
    if (contrast < 4.5) found.push(`${text.slice(0, 40)}: ${contrast.toFixed(2)}, ${color} on ${below}`);
  }
  return { checked, found };
})()
"""
"""Computes the contrast of each visible text with the ground below it. Returns those below 4.5."""
