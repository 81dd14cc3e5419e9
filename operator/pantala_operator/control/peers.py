"""Keeps one Peer resource for each peer, with the supernodes' reports about the peer."""

from datetime import datetime

from pantala_operator.control.guard import PlanGuard
from pantala_operator.control.writer import Writer
from pantala_operator.plan import peer, targets
from pantala_operator.plan.peer import PeerPlan
from pantala_operator.ports import Clock
from pantala_operator.resources.api import API_VERSION, PeerResource
from pantala_operator.watch.observation import Observation

_RECONNECT = 15.0
"""Seconds that peers have to reconnect to a restarted supernode before they count as disconnected."""
_INTERVAL = 5.0
"""Seconds between two turns, if no event requests an earlier turn."""


class ReconnectGrace:
    """Decides whether peers have had enough time to reconnect since a supernode started."""

    def __init__(self, observation: Observation, clock: Clock) -> None:
        self._observation = observation
        self._clock = clock
        self._boots: tuple[tuple[str, ...], float] = ((), 0.0)

    @property
    def expired(self) -> bool:
        """True if the time to reconnect has passed, so that a peer without a connection counts as disconnected."""
        supernodes, now = self._observation.supernodes, self._clock.monotonic()
        if supernodes.boots != self._boots[0]:
            self._boots = (supernodes.boots, now)
        return supernodes.complete and now - self._boots[1] >= _RECONNECT

    @property
    def over(self) -> bool:
        """True if all reachable peers have reconnected, or the grace period has expired."""
        expired, supernodes = self.expired, self._observation.supernodes
        if not supernodes.complete or supernodes.away:
            return False
        return expired or all(self._is_settled(name) for name in self._observation.peers.items)

    def _is_settled(self, name: str) -> bool:
        """True if the peer has reported since the supernodes started, or if its node is down."""
        node = self._observation.nodes.items.get(name)
        return node is None or targets.is_ill(node) or name in self._observation.supernodes.peers


class PeerController:
    """Plans all Peer resources when marked, and every few seconds."""

    def __init__(
        self, observation: Observation, writer: Writer, guard: PlanGuard, grace: ReconnectGrace, clock: Clock
    ) -> None:
        self._observation = observation
        self._writer = writer
        self._guard = guard
        self._grace = grace
        self._clock = clock
        self._due = 0.0

    def mark(self) -> None:
        """Request a plan at the next turn."""
        self._due = 0.0

    def turn(self, now: datetime) -> None:
        if self._clock.monotonic() < self._due:
            return
        self._due = self._clock.monotonic() + _INTERVAL
        supernodes, expired = self._observation.supernodes, self._grace.expired
        away, reports = supernodes.away, supernodes.peers
        nodes, peers = self._observation.nodes.items, self._observation.peers.items
        silent = self._observation.progress.silent
        for name in nodes.keys() | peers.keys():
            there = peers.get(name)
            found = peer.ObservedPeer(
                reports.get(name),
                on_node=name in nodes,
                reconnected=expired,
                away=away,
                silence=silent.get(name),
                zone=nodes[name].zone if name in nodes else "",
            )
            with self._guard.planning(there, now):
                self._carry_out(name, there, peer.plan(there, found, now))

    def _carry_out(self, name: str, there: PeerResource | None, plan: PeerPlan) -> None:
        if plan.create:
            self._writer.create_peer({"apiVersion": API_VERSION, "kind": PeerResource.kind, "metadata": {"name": name}})
        elif there is not None and plan.delete:
            self._writer.delete(there)
        elif there is not None and plan.status is not None:
            self._writer.write(there, plan.status, announce=True)
        else:
            self._writer.cancel(f"peer/{name}")
