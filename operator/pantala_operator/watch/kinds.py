"""Checks that the API server answers and serves Pantala's custom resources."""

import asyncio

import structlog

from pantala_operator.errors import ClusterError
from pantala_operator.ports import Clock, ClusterAPI
from pantala_process.backoff import Backoff, pause_until

log = structlog.get_logger(__name__)

_INTERVAL = 15.0
"""Seconds between two checks that succeed."""
_STALE = 60.0
"""Seconds for which an answer is valid."""


class ServedKinds:
    """Asks the API server repeatedly whether it serves Pantala's custom resources."""

    def __init__(self, cluster: ClusterAPI, clock: Clock) -> None:
        self._cluster = cluster
        self._clock = clock
        self._answered_at = clock.monotonic() - _STALE
        self._reason = "the operator has not asked for Pantala's CRDs yet"
        self._soon = asyncio.Event()
        self._served = asyncio.Event()
        self._missing = asyncio.Event()

    @property
    def problem(self) -> str:
        """Why our custom resources cannot be used. Empty if they can, and during an outage of less than a minute."""
        if self._clock.monotonic() - self._answered_at < _STALE and not self._missing.is_set():
            return ""
        return self._reason or f"the API server has not answered for {_STALE:.0f} s"

    async def served(self) -> None:
        """Return at the API server's next answer that it serves Pantala's custom resources."""
        self._served.clear()
        self._soon.set()
        await self._served.wait()

    async def missing(self) -> None:
        """Return at the API server's next answer that it does not serve all of our custom resources."""
        await self._missing.wait()

    async def run(self) -> None:
        backoff = Backoff(0.5, 5)
        while True:
            self._soon.clear()
            try:
                missing = await self._cluster.missing_kinds()
            except ClusterError as error:
                self._wait_for(f"a request to the API server failed: {error}")
                await backoff.pause()
                continue
            if missing:
                self._served.clear()
                self._missing.set()
                self._wait_for(f"the API server does not serve the CRD {missing[0]}. Apply crds/")
                await backoff.pause()
                continue
            backoff.reset()
            self._answered_at = self._clock.monotonic()
            self._reason = ""
            self._missing.clear()
            self._served.set()
            await pause_until(self._soon, _INTERVAL)

    def _wait_for(self, reason: str) -> None:
        if reason != self._reason:
            log.warning("Waiting", reason=reason)
        self._reason = reason
