"""Why nodes get no bytes: a problem of the node itself, or a provider that refuses it. Pure: the time is passed in."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from pantala_protocol.reasons import Reason
from pantala_protocol.sync import PieceFailure
from pantala_supernode.swarm.task_progress import SUPERNODE

_OWN: Final = {
    reason.value: reason for reason in (Reason.NODE_DISK_FULL, Reason.NODE_DISK_FAILED, Reason.NODE_FILES_EXHAUSTED)
}
"""The reasons that a node may report about itself."""
_OWN_FADES: Final = 20.0
"""Seconds after which a failure of the node itself is forgotten, unless it is repeated. The node tries every 5 s."""
_REFUSAL_FADES: Final = 60.0
"""Seconds after which a provider's failures are forgotten. A node avoids a peer for 30 s after a failure."""
_REPEATED: Final = 2
"""The fewest failures of one provider that are reported."""
_QUIET: Final = 3.0
"""Seconds. A node that has got a piece in this time is not reported, because other providers serve it."""


class NodeTrouble(NamedTuple):
    """Why a node gets no bytes."""

    reason: Reason
    message: str
    since: float
    """When the first failure was reported, in monotonic seconds."""


@dataclass(slots=True)
class _Refusals:
    """The failures of one provider for one node since its last success."""

    kind: str
    since: float
    latest: float
    count: int = 1

    def trouble(self, node: str, provider: str) -> NodeTrouble:
        who = "The supernode's piece server" if provider == SUPERNODE else f"The provider {provider}"
        did = "refuses the requests of" if self.kind == "refused" else "cannot be reached from"
        return NodeTrouble(Reason.PROVIDER_REFUSED, f"{who} {did} node {node}.", self.since)


class NodeTroubles:
    """The troubles of all downloads, by task and node. A success ends them."""

    def __init__(self) -> None:
        self._own: dict[tuple[str, str], tuple[NodeTrouble, float]] = {}
        """The node's own trouble, and when it was last reported."""
        self._refusals: dict[tuple[str, str], dict[str, _Refusals]] = {}

    def failed(self, node: str, failure: PieceFailure, provider: str, *, now: float) -> None:
        """Record that a node did not get a piece from ``provider``."""
        key = (failure.task_id, node)
        if failure.kind == "local" and failure.reason in _OWN:
            known = self._own.get(key)
            new = NodeTrouble(_OWN[failure.reason], failure.message, now)
            self._own[key] = (known[0] if known is not None and known[0].reason == new.reason else new, now)
        elif failure.kind in ("refused", "unreachable"):
            refusals = self._refusals.setdefault(key, {})
            past = refusals.get(provider)
            if past is None:
                refusals[provider] = _Refusals(failure.kind, now, now)
            else:
                past.kind, past.latest, past.count = failure.kind, now, past.count + 1

    def succeeded(self, task_id: str, node: str, providers: Iterable[str]) -> None:
        """Record that a node got pieces from these providers."""
        key = (task_id, node)
        if key in self._own:
            del self._own[key]
        if key in self._refusals:
            for provider in providers:
                self._refusals[key].pop(provider, None)
            if not self._refusals[key]:
                del self._refusals[key]

    def find(self, task_id: str, node: str, *, latest: float, now: float) -> NodeTrouble | None:
        """Why a node gets no bytes of a task. ``latest``: when it got a piece last."""
        key = (task_id, node)
        if key in self._own:
            return self._own[key][0]
        repeated = [
            (refusals.count, provider, refusals)
            for provider, refusals in self._refusals.get(key, {}).items()
            if refusals.count >= _REPEATED and now - max(latest, refusals.since) >= _QUIET
        ]
        if not repeated:
            return None
        _, provider, most = max(repeated, key=lambda each: each[:2])
        return most.trouble(node, provider)

    def forget(self, task_id: str, node: str) -> None:
        self._own.pop((task_id, node), None)
        self._refusals.pop((task_id, node), None)

    def expire(self, now: float) -> None:
        """Forget failures that were not repeated for long."""
        self._own = {key: own for key, own in self._own.items() if now - own[1] < _OWN_FADES}
        for key, refusals in list(self._refusals.items()):
            fresh = {name: each for name, each in refusals.items() if now - each.latest < _REFUSAL_FADES}
            if fresh:
                self._refusals[key] = fresh
            else:
                del self._refusals[key]
