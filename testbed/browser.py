"""Drives a headless Chromium over the Chrome DevTools Protocol, for tests of the console's page and for screenshots.

Chromium is Debian's package. As root, :func:`program` installs it once, with the font of the screenshots.
"""

import asyncio
import base64
import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from testbed.cluster import packages
from testbed.cluster.command import CommandError
from testbed.process import Process

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_PACKAGES = ("chromium", "fonts-inter")
_FLAGS = (
    "--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--disable-default-apps", "--disable-extensions", "--disable-sync",
    "--no-first-run", "--no-default-browser-check", "--hide-scrollbars", "--force-color-profile=srgb",
    "--remote-debugging-port=0",
)  # fmt: skip
_START_SECONDS = 30.0
_CALL_SECONDS = 20.0


class BrowserError(RuntimeError):
    """Chromium is missing, did not start, or a script in the page failed."""


def available() -> bool:
    """True if Chromium is installed, or if this process may install it."""
    return _found() is not None or (os.geteuid() == 0 and shutil.which("apt-get") is not None)


def program() -> str:
    """The path of Chromium, which is installed if necessary. Raises :class:`BrowserError`."""
    found = _found()
    if found is None:
        if not available():
            raise BrowserError("Chromium is not installed. Run as root: apt-get install chromium fonts-inter.")
        try:
            packages.install(*_PACKAGES)
        except CommandError as error:
            raise BrowserError(f"Chromium cannot be installed: {error}") from error
        found = _found()
    if found is None:
        raise BrowserError("Chromium is not installed, although its package is.")
    return found


def _found() -> str | None:
    return next((path for each in _PROGRAMS if (path := shutil.which(each))), None)


class BrowserPage:
    """One page in a browser. It collects all errors of the page's console."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.errors: list[str] = []
        """Errors and warnings of the page's console, exceptions, and refused or failed requests."""
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol. Raises :class:`BrowserError`."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        try:
            found = await asyncio.wait_for(answer, _CALL_SECONDS)
        finally:
            del self._answers[number]
        if "error" in found:
            raise BrowserError(f"{method}: {found['error'].get('message')}")
        result: dict[str, Any] = found["result"]
        return result

    async def open(self, url: str) -> None:
        """Load a page."""
        self._loaded.clear()
        await self.call("Page.navigate", url=url)
        await asyncio.wait_for(self._loaded.wait(), _CALL_SECONDS)

    async def run(self, script: str) -> Any:
        """The value of a JavaScript expression, which may be a promise."""
        found = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            details = found["exceptionDetails"]
            raise BrowserError(details.get("exception", {}).get("description") or details["text"])
        return found["result"].get("value")

    async def until(self, script: str, seconds: float = 15.0) -> None:
        """Wait until an expression is true, as JavaScript sees it."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not await self.run(f"Boolean({script})"):
            if asyncio.get_running_loop().time() > deadline:
                text = await self.run("document.body.innerText")
                raise BrowserError(f"not true after {seconds:g} s: {script}\n{text}\n{self.errors}")
            await asyncio.sleep(0.1)

    async def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key such as ``Tab``, ``Enter`` or ``ArrowRight``."""
        codes = {"Tab": 9, "Enter": 13, " ": 32, "ArrowRight": 39, "ArrowLeft": 37}
        text = {"Enter": "\r", " ": " "}.get(key)
        common = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key], "modifiers": 8 if shift else 0}
        await self.call("Input.dispatchKeyEvent", type="keyDown", **common, **({"text": text} if text else {}))
        await self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    async def resize(self, width: int, height: int) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    async def prefer(self, scheme: str, *, motion: str = "no-preference") -> None:
        """Set the preferred colours, ``light`` or ``dark``, and ``reduce`` or ``no-preference`` for motion."""
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": motion},
        ]
        await self.call("Emulation.setEmulatedMedia", features=features)

    async def screenshot(self) -> bytes:
        """What is visible, as a PNG."""
        found = await self.call("Page.captureScreenshot", format="png")
        return base64.b64decode(found["data"])

    async def listen(self) -> None:
        """Receive answers and events until cancelled."""
        async for message in self._socket:
            found = message.json()
            if "id" in found:
                if found["id"] in self._answers and not self._answers[found["id"]].done():
                    self._answers[found["id"]].set_result(found)
            else:
                self._on_event(found["method"], found["params"])

    def _on_event(self, method: str, event: dict[str, Any]) -> None:
        match method:
            case "Page.loadEventFired":
                self._loaded.set()
            case "Runtime.exceptionThrown":
                details = event["exceptionDetails"]
                self.errors.append(details.get("exception", {}).get("description") or details["text"])
            case "Runtime.consoleAPICalled" if event["type"] in {"error", "warning", "assert"}:
                self.errors.append(" ".join(str(each.get("value", each.get("description"))) for each in event["args"]))
            case "Log.entryAdded" if event["entry"]["level"] in {"error", "warning"}:
                self.errors.append(f"{event['entry']['text']} {event['entry'].get('url', '')}")


@contextlib.asynccontextmanager
async def browsing() -> AsyncIterator[BrowserPage]:
    """Run Chromium with one empty page while the block runs. Raises :class:`BrowserError`."""
    path = await asyncio.to_thread(program)
    with tempfile.TemporaryDirectory(prefix="pantala-browser-", ignore_cleanup_errors=True) as folder:
        sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()  # Chromium's sandbox refuses root
        command = [path, *_FLAGS, *sandbox, f"--user-data-dir={folder}/profile", "about:blank"]
        process = Process(command, Path(folder) / "log", {**os.environ, "HOME": folder})
        try:
            port = await _port(Path(folder) / "profile" / "DevToolsActivePort", process)
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    target = next(each for each in await answer.json() if each["type"] == "page")
                async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    page = BrowserPage(socket)
                    listening = asyncio.create_task(page.listen())
                    try:
                        for domain in ("Page", "Runtime", "Log", "Network"):
                            await page.call(f"{domain}.enable")
                        yield page
                    finally:
                        listening.cancel()
        finally:
            process.stop(3.0)


async def _port(file: Path, process: Process) -> int:
    """The port of the protocol, which Chromium writes to a file."""
    deadline = asyncio.get_running_loop().time() + _START_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        if process.returncode is not None:
            raise BrowserError(f"Chromium ended with {process.returncode}. The end of its log:\n{process.tail()}")
        with contextlib.suppress(OSError, IndexError, ValueError):
            return int((await asyncio.to_thread(file.read_text)).split()[0])
        await asyncio.sleep(0.05)
    raise BrowserError(f"Chromium has not started after {_START_SECONDS:g} s. The end of its log:\n{process.tail()}")
