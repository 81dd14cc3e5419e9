"""Which supernodes there shall be, asked again and again of their StatefulSet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from pantala_operator.errors import ClusterError
from pantala_operator.ports import ClusterAPI
from pantala_operator.supernodes import replicas
from pantala_operator.supernodes.replicas import Address, Replicas

log = structlog.get_logger(__name__)

_INTERVAL = 2.0
"""Seconds between two questions. A supernode that is told to end waits longer, to hear whether it is to leave."""


class Discovery:
    """Asks until cancelled; each answer goes to ``found``. What is known stays while there is no answer."""

    def __init__(
        self, cluster: ClusterAPI, namespace: str, name: str, address: Address, found: Callable[[Replicas], None]
    ) -> None:
        """Ask nothing yet. ``address``: where the API of one of its pods is."""
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._address = address
        self._found = found
        self.problem = f"the StatefulSet {namespace}/{name} has not been read yet"
        """Why the last question had no answer; empty: it had one."""

    async def run(self) -> None:
        """Ask, for ever."""
        known = False
        while True:
            try:
                answer = await self._cluster.get_stateful_set(self._namespace, self._name)
            except ClusterError as error:
                problem = f"the StatefulSet {self._namespace}/{self._name} cannot be read: {error}"
                if problem != self.problem:
                    log.warning("The supernodes cannot be counted; it is tried again", error=problem)
                self.problem = problem
                if not known:
                    self._found(Replicas(absent=problem))
            else:
                known, self.problem = True, ""
                self._found(replicas.of_stateful_set(answer, self._address))
            await asyncio.sleep(_INTERVAL)
