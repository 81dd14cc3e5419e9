"""``/healthz`` and ``/readyz``: whether the operator lives, and whether it can do its work now."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from pantala_operator.ports import Clock

_STALE = 60.0
"""Seconds after which what was seen last does not count any more."""


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
