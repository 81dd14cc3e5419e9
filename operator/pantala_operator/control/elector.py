"""Elects the leading replica of the operator by a Lease, as client-go does. Only the leader plans and writes.

Clocks of machines are not compared. A replica takes the Lease if it has seen no change of it for the Lease's duration,
by its own monotonic clock. The leader counts its term from the moment before the request that renewed the Lease.
"""

import asyncio
import os
import secrets

import structlog

from pantala_operator.errors import (
    ClusterConflictError,
    ClusterError,
    ClusterNotFoundError,
    ClusterUnavailableError,
    LeaseLostError,
)
from pantala_operator.events import LeadershipChanged, OperatorEvents
from pantala_operator.ports import Clock, ClusterAPI
from pantala_operator.resources.api import Metadata
from pantala_operator.resources.lease import LeaseResource
from pantala_operator.supernodes.view import SupernodeOverview
from pantala_operator.term import Term

log = structlog.get_logger(__name__)

INTERVAL = 2.0
"""Seconds between two renewals, and between two checks of the Lease by the other replicas."""
_DURATION = 10.0
"""Seconds after the leader's last renewal at which another replica takes over."""
_MARGIN = 2.0
"""The leader ends its term earlier by this many seconds, because a write may take a moment."""
_TIMEOUT = 4.0
"""The time limit of one request, in seconds."""
_AGAIN = 0.1
"""Seconds until another attempt after a conflict."""
_CUT_OFF = 3
"""The number of failed attempts after which the API server counts as unavailable."""


class Elector:
    """Acquires and renews the Lease for this replica. Publishes :class:`LeadershipChanged`.

    ``metadata``: the namespace and name of the Lease.
    """

    def __init__(
        self,
        cluster: ClusterAPI,
        term: Term,
        supernodes: SupernodeOverview,
        events: OperatorEvents,
        clock: Clock,
        metadata: Metadata,
        *,
        pod: str = "",
    ) -> None:
        self.identity = f"{pod or os.uname().nodename}_{secrets.token_hex(4)}"
        """Differs after each start, so that a new process never takes the term of a former process for its own."""
        self.problem = ""
        """Why the Lease cannot be used. Empty if it can be used, and while the API server is unavailable."""
        self._cluster = cluster
        self._term = term
        self._supernodes = supernodes
        self._events = events
        self._clock = clock
        self._metadata = metadata
        self._lease = LeaseResource(metadata)
        self._holds = False
        self._led = False
        self._seen = ("", "", 0.0)
        self._read_at = float("-inf")
        self._failures = 0

    @property
    def leader(self) -> str:
        """The pod that holds the Lease, as last read. Empty: no pod, or not known."""
        return self._lease.holder.rpartition("_")[0]

    async def run(self) -> None:
        """At the end, give the Lease back, so that another replica takes over at once.

        Raises :class:`LeaseLostError` when another replica has taken the Lease from this replica.
        """
        try:
            while True:
                pause = await self._step()
                await asyncio.sleep(pause)
        finally:
            self._term.end()
            if self._holds:
                await self._release()

    async def _step(self) -> float:
        """Read, take or renew the Lease. Returns the seconds until the next step."""
        pause = INTERVAL
        try:
            async with asyncio.timeout(_TIMEOUT):
                pause = await self._turn()
        except ClusterConflictError:
            pause, self._lease = _AGAIN, LeaseResource(self._metadata)  # without a version: read it again
        except (ClusterError, TimeoutError) as error:
            self._fail(error)
        self._publish()
        return min(pause, self._term.remaining + _AGAIN) if self._term.leads else pause

    async def _release(self) -> None:
        self._holds = False
        given_back = self._lease.held("", self._lease.transitions, 1, self._clock.now())
        try:
            async with asyncio.timeout(_TIMEOUT):
                await self._cluster.write_lease(given_back)
        except (ClusterError, TimeoutError) as error:
            log.warning("The Lease was not released, so another operator waits until the Lease ends.", error=str(error))

    async def _turn(self) -> float:
        began = self._clock.monotonic()
        if not (self._holds and self._lease.metadata.resource_version):
            await self._read()
        holder = self._lease.holder
        if holder == self.identity:
            await self._write(began, self._lease.transitions)
        elif self._holds and (holder or self._lease.transitions > self._term.epoch):
            self._holds = False
            self._term.end()
            other = f"leads now: {holder}" if holder else "has led since the last renewal"
            raise LeaseLostError(f"another operator {other}. This operator restarts")
        elif holder and (left := self._left()) > 0:
            return min(INTERVAL, left + 0.05)
        else:
            await self._write(began, self._lease.transitions + 1)
        return INTERVAL

    async def _read(self) -> None:
        try:
            self._lease = await self._cluster.read_lease(self._metadata)
        except ClusterNotFoundError:
            self._lease = LeaseResource(self._metadata)
        now, version = self._clock.monotonic(), self._lease.metadata.resource_version
        was_away = now - self._read_at > _DURATION / 2
        if self._seen[:2] != (version, self._lease.holder) or was_away:
            # After an outage of the API server, the leader gets the time to renew the Lease.
            self._seen = version, self._lease.holder, now
        self._read_at = now
        self._recovered()

    def _left(self) -> float:
        """Seconds until this replica may take the Lease of another replica."""
        duration = self._lease.spec.lease_duration_seconds or _DURATION
        return self._seen[2] + duration - self._clock.monotonic()

    async def _write(self, began: float, transitions: int) -> None:
        """Take or renew the Lease. The epoch exceeds all epochs that supernodes know, also if the Lease was deleted."""
        if self._supernodes.epoch > transitions or (not self._holds and self._supernodes.epoch == transitions):
            transitions = self._supernodes.epoch + 1
        wanted = self._lease.held(self.identity, transitions, round(_DURATION), self._clock.now())
        self._lease = await self._cluster.write_lease(wanted)
        if not self._holds:
            log.info("This replica leads", lease=self._lease.metadata.key, epoch=transitions)
        self._holds = True
        self._term.extend(began + _DURATION - _MARGIN, transitions)
        self._recovered()

    def _recovered(self) -> None:
        self._failures = 0
        if self.problem:
            log.info("The Lease can be used again")
        self.problem = ""

    def _fail(self, error: ClusterError | TimeoutError) -> None:
        away = isinstance(error, ClusterUnavailableError | TimeoutError)
        self._failures += 1
        # The first errors may come from connections that broke while this process was paused.
        self._term.cut_off = self._holds and away and self._failures >= _CUT_OFF
        text = str(error) or "the API server does not answer in time"
        if not away and text != self.problem:
            log.warning("The Lease cannot be used, so this replica does not lead.", error=text)
            self.problem = f"the Lease {self._lease.metadata.key} cannot be used: {text}"

    def _publish(self) -> None:
        if self._term.leads != self._led:
            self._led = self._term.leads
            if not self._led:
                log.warning("This replica no longer leads", lease=self._lease.metadata.key)
            self._events.publish(LeadershipChanged(self._led))
