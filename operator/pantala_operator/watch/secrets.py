"""Secrets with credentials: read when something names them, and again from time to time. They are never listed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from pantala_operator.errors import ClusterError, ClusterForbiddenError, ClusterNotFoundError
from pantala_operator.plan import headers
from pantala_operator.plan.headers import Absent, Denied, Headers, SecretReading
from pantala_operator.plan.prefetch.pullsecret import docker_config
from pantala_operator.ports import Clock, ClusterAPI
from pantala_operator.resources.api import Secret
from pantala_operator.watch.observation import Observation, SecretKey, secret_key

log = structlog.get_logger(__name__)

_GOOD = 180.0
"""Seconds until a good Secret is read again, to see that it was changed."""
_BAD = (1.0, 10.0)
"""Seconds until a missing or bad one is read again, at first and at most: somebody is waiting, and what is applied
together comes together."""
_FAILED = 5.0
"""Seconds until it is tried again after no answer; what was read before is used meanwhile."""
_TURN = 0.5


class SecretReader:
    """Reads until cancelled; ``changed`` is called with each Secret that is not what it was."""

    def __init__(
        self, cluster: ClusterAPI, observation: Observation, clock: Clock, changed: Callable[[SecretKey], None]
    ) -> None:
        """Read nothing yet."""
        self._cluster = cluster
        self._known = observation
        self._clock = clock
        self._changed = changed
        self._due: dict[SecretKey, float] = {}
        self._pauses: dict[SecretKey, float] = {}

    async def run(self) -> None:
        """Read, for ever."""
        while True:
            await self.turn()
            await asyncio.sleep(_TURN)

    async def turn(self) -> None:
        """Read what is due, once; forget what nobody names."""
        named = self._known.pull_secrets | {
            key for task in self._known.tasks.items.values() if (key := secret_key(task)) is not None
        }
        for key in self._due.keys() - named:
            del self._due[key]
            self._pauses.pop(key, None)
            self._known.secrets.pop(key, None)
        now = self._clock.monotonic()
        for key in sorted(key for key in named if self._due.get(key, 0.0) <= now):
            await self._read(key)

    async def _read(self, key: SecretKey) -> None:
        reading: SecretReading
        try:
            reading = await self._cluster.get_secret(*key)
        except ClusterNotFoundError:
            reading = Absent()
        except ClusterForbiddenError as error:
            reading = Denied(str(error))
        except ClusterError as error:
            log.warning("A Secret could not be read; it is tried again", secret="/".join(key), error=str(error))
            self._due[key] = self._clock.monotonic() + _FAILED
            return
        self._due[key] = self._clock.monotonic() + self._pause(key, reading)
        if self._known.secrets.get(key) != reading:
            self._known.secrets[key] = reading
            self._changed(key)

    def _pause(self, key: SecretKey, reading: SecretReading) -> float:
        """Seconds until it is read again."""
        if _is_good(key, reading):
            self._pauses.pop(key, None)
            return _GOOD
        first, longest = _BAD
        pause = self._pauses.get(key, first)
        self._pauses[key] = min(pause * 2, longest)
        return pause


def _is_good(key: SecretKey, reading: SecretReading) -> bool:
    if isinstance(reading, Secret) and isinstance(docker_config(reading), str):
        return True
    return isinstance(headers.read("/".join(key), reading), Headers)
