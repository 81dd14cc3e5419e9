"""``/healthz`` and ``/readyz``: whether the operator lives, and whether it can do its work now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from aiohttp import web

from pantala_operator.backoff import Backoff
from pantala_operator.errors import ClusterError
from pantala_operator.ports import Clock, ClusterAPI

log = structlog.get_logger(__name__)

_CHECK = 15.0
"""Seconds between two questions to the API server whether it serves our kinds."""
_STALE = 60.0
"""Seconds after which what was seen last does not count any more."""


class ServedKinds:
    """Whether the API server answers and serves our kinds: asked again and again, until cancelled."""

    def __init__(self, cluster: ClusterAPI, clock: Clock) -> None:
        """Ask nothing yet."""
        self._cluster = cluster
        self._clock = clock
        self._answered_at = clock.monotonic() - _STALE
        self._reason = "the API server has not been asked yet"
        self._soon = asyncio.Event()
        self._served = asyncio.Event()
        self._missing = asyncio.Event()

    @property
    def problem(self) -> str:
        """What is wrong; empty: nothing. A short outage is not worth a word."""
        if self._clock.monotonic() - self._answered_at < _STALE and not self._missing.is_set():
            return ""
        return self._reason or f"the API server has not answered for {_STALE:.0f} s"

    async def served(self) -> None:
        """Return once the API server has said, after this call, that it serves our kinds."""
        self._served.clear()
        self._soon.set()
        await self._served.wait()

    async def missing(self) -> None:
        """Return once the API server has said that it does not serve them."""
        await self._missing.wait()

    async def run(self) -> None:
        """Ask, for ever."""
        backoff = Backoff(0.5, 5)
        while True:
            self._soon.clear()
            try:
                missing = await self._cluster.missing_kinds()
            except ClusterError as error:
                self._say(f"the API server cannot be asked: {error}")
                await backoff.pause()
                continue
            if missing:
                self._served.clear()
                self._missing.set()
                self._say(f"CRD {missing[0]} is not served; install crds/")
                await backoff.pause()
                continue
            backoff.reset()
            self._answered_at = self._clock.monotonic()
            self._reason = ""
            self._missing.clear()
            self._served.set()
            try:
                async with asyncio.timeout(_CHECK):
                    await self._soon.wait()
            except TimeoutError:
                continue

    def _say(self, reason: str) -> None:
        if reason != self._reason:
            log.warning("Waiting", reason=reason)
        self._reason = reason


class Health:
    """Answers probes."""

    def __init__(self, clock: Clock, beat: Callable[[], float], problems: Callable[[], list[str]]) -> None:
        """``beat``: when the loop was last alive; ``problems``: what keeps the operator from its work."""
        self._clock = clock
        self._beat = beat
        self._problems = problems
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen. Returns the port, which matters when 0 was asked for."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Listen no longer."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, request: web.Request) -> web.Response:
        age = self._clock.monotonic() - self._beat()
        return _answer([f"the loop has not moved for {age:.0f} s"] if age >= _STALE else [])

    async def _readyz(self, request: web.Request) -> web.Response:
        return _answer(self._problems())


def _answer(reasons: list[str]) -> web.Response:
    status = 503 if reasons else 200
    return web.json_response({"status": "unavailable" if reasons else "ok", "reasons": reasons}, status=status)
