"""Reads the Secrets that Tasks and ImagePrefetches name, each repeatedly by its name. It never lists Secrets."""

import asyncio
from collections import Counter

import msgspec
import structlog

from pantala_operator.errors import ClusterError, ClusterForbiddenError, ClusterNotFoundError
from pantala_operator.events import OperatorEvents, SecretKey, SecretRead
from pantala_operator.plan.secrets import (
    MOST_OF_NAMESPACE,
    Absent,
    Denied,
    Excess,
    Headers,
    SecretReading,
    headers,
    opted_in,
    pull_secret,
)
from pantala_operator.ports import Clock, ClusterAPI, DataKind
from pantala_operator.resources.api import Secret
from pantala_operator.throttle import Throttle
from pantala_operator.watch.observation import Observation
from pantala_process.backoff import doubled

log = structlog.get_logger(__name__)

_GOOD = 180.0
"""Seconds until a valid Secret is read again, in case it changed."""
_BAD = (1.0, 10.0)
"""Seconds until a missing or invalid Secret is read again, at first and at most. Its Task waits, and is
often applied before its Secret."""
_FAILED = 5.0
"""Seconds until a failed read is tried again; the former reading is used meanwhile."""
_TURN = 0.5
_SHARE = 50
"""The most Secrets of one namespace in a turn, so that many missing ones do not delay those of other namespaces."""


class SecretReader:
    """Keeps the observed Secrets up to date, and publishes ``SecretRead`` when a Secret differs."""

    def __init__(
        self, cluster: ClusterAPI, observation: Observation, events: OperatorEvents, clock: Clock, grant: str
    ) -> None:
        """``grant``: the command that lets the operator read Secrets, with ``{namespace}`` in it."""
        self._grant = grant
        self._cluster = cluster
        self._observation = observation
        self._events = events
        self._clock = clock
        self._due: dict[SecretKey, float] = {}
        self._failures: dict[SecretKey, int] = {}
        self._sizes: dict[SecretKey, int] = {}
        self._totals = Counter[str]()
        """The bytes of the kept Secrets by namespace."""
        self._throttle = Throttle(clock)

    async def run(self) -> None:
        while True:
            more = await self.turn()
            await asyncio.sleep(0 if more else _TURN)

    async def turn(self) -> bool:
        """Read some Secrets that are due, and forget those that no resource names. Returns True if more are due."""
        named = self._observation.named_secrets()
        for key in self._due.keys() - named:
            del self._due[key]
            self._failures.pop(key, None)
            self._observation.secrets.pop(key, None)
            self._resize(key, 0)
        now = self._clock.monotonic()
        due = sorted((at, key) for key in named if (at := self._due.get(key, 0.0)) <= now)
        shares = Counter[str]()
        for _, key in due:
            if shares[key[0]] < _SHARE:
                shares[key[0]] += 1
                await self._read(key)
        return len(due) > shares.total()

    async def _read(self, key: SecretKey) -> None:
        reading: SecretReading
        try:
            reading = await self._cluster.read_data(DataKind.SECRET, *key)
            if not opted_in(reading):
                reading = msgspec.structs.replace(reading, data={})
        except ClusterNotFoundError:
            reading = Absent()
        except ClusterForbiddenError:
            reading = Denied(self._grant.format(namespace=key[0]))
        except ClusterError as error:
            if self._throttle.passes(type(error)):
                log.warning("A Secret cannot be read. The operator retries.", secret="/".join(key), error=str(error))
            self._due[key] = self._clock.monotonic() + _FAILED
            return
        if not self._resize(key, sum(map(len, reading.data.values())) if isinstance(reading, Secret) else 0):
            reading = Excess()
        self._due[key] = self._clock.monotonic() + self._pause(key, reading)
        if self._observation.secrets.get(key) != reading:
            self._observation.secrets[key] = reading
            self._events.publish(SecretRead(key))

    def _resize(self, key: SecretKey, size: int) -> bool:
        """Count the bytes of a Secret in place of its former bytes.

        Returns False, and counts 0 bytes, if the namespace then has too many.
        """
        others = self._totals[key[0]] - self._sizes.pop(key, 0)
        fits = others + size <= MOST_OF_NAMESPACE
        if fits and size:
            self._sizes[key] = size
        self._totals[key[0]] = others + self._sizes.get(key, 0)
        return fits

    def _pause(self, key: SecretKey, reading: SecretReading) -> float:
        """Seconds until the next read."""
        if _is_good(key, reading):
            self._failures.pop(key, None)
            return _GOOD
        self._failures[key] = self._failures.get(key, 0) + 1
        return doubled(*_BAD, self._failures[key])


def _is_good(key: SecretKey, reading: SecretReading) -> bool:
    if isinstance(reading, Excess):  # to read it often would load the API server
        return True
    return isinstance(pull_secret(key[1], reading), str) or isinstance(headers("/".join(key), reading), Headers)
