"""Views of peers and supernodes, and of the bytes that flow between them now. Pure."""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from pantala_operator.console.summaries import ready_of
from pantala_operator.plan.nodes import SUPERNODE, SourceBytes
from pantala_operator.resources.api import PeerResource
from pantala_operator.resources.conditions import Condition, ConditionStatus, ConditionType
from pantala_operator.supernodes.view import SupernodeOverview
from pantala_protocol.console.progress import Progress
from pantala_protocol.console.views import Edge, PeerFinding, PeerView, SupernodeState, Traffic
from pantala_protocol.statement import PeerReport

MOST_EDGES: Final = 1000


class Rates:
    """Bytes per second now, added over all tasks."""

    def __init__(self, progress: Iterable[Progress]) -> None:
        self.edges: Counter[tuple[str, str]] = Counter()
        """By provider and node."""
        self.into: Counter[str] = Counter()
        self.out_of: Counter[str] = Counter()
        self.origin = 0
        for each in progress:
            for task in each.tasks:
                self.origin += task.origin_rate
                for node in task.nodes:
                    self.into[node.node] += node.rate
                    for flow in node.flows:
                        if flow.rate:
                            self.edges[flow.provider or SUPERNODE, node.node] += flow.rate
                            self.out_of[flow.provider or SUPERNODE] += flow.rate

    def views(self) -> tuple[Edge, ...]:
        """The edges with the greatest rates, the greatest first."""
        most = heapq.nlargest(MOST_EDGES, self.edges.items(), key=lambda each: (each[1], each[0]))
        return tuple(Edge(provider, node, rate) for (provider, node), rate in most)

    def of_all(self, so_far: Iterable[Traffic]) -> Traffic:
        """The sum of the bytes ``so_far``, with the rates of all tasks, also of blobs that no Task names."""
        moved = SourceBytes.total(SourceBytes(each.origin, each.supernode, each.peers) for each in so_far)
        by_supernode = self.out_of[SUPERNODE]
        by_peers = max(0, self.into.total() - by_supernode)  # a message names only the providers with the most bytes
        return Traffic(*moved, self.origin, by_supernode, by_peers)


def view(peer: PeerResource, report: PeerReport | None, rates: Rates, zone: str) -> PeerView:
    """One peer, by its status and by the newest report of the supernodes. ``zone``: the zone of the peer's Node."""
    status, name = peer.status, peer.metadata.name
    ready, reason, message = ready_of(status.conditions)
    cache_bytes, tasks = (0, 0) if status.cache is None else (status.cache.used, status.cache.tasks)
    if report is not None:
        cache_bytes, tasks = report.cache_bytes, report.tasks
    return PeerView(
        name=name,
        ready=ready,
        reason=reason,
        message=message,
        zone=zone or status.zone,
        address=status.address,
        version=status.version,
        cache_bytes=cache_bytes,
        tasks=tasks,
        uploads=status.uploads if report is None else report.uploads,
        rate_in=rates.into[name],
        rate_out=rates.out_of[name],
        clock_ahead=None if report is None else report.clock_ahead,
        conditions=tuple(_findings(status.conditions)),
    )


def _findings(found: Iterable[Condition]) -> Iterator[PeerFinding]:
    for each in found:
        if each.type != ConditionType.READY:
            good = each.status == ConditionStatus.TRUE
            yield PeerFinding(each.type, each.status, each.reason, "" if good else each.message)


def supernodes(overview: SupernodeOverview, progress: Mapping[str, Progress]) -> Iterator[SupernodeState]:
    for name, each in sorted(overview.views.items()):
        known = progress.get(name)
        message = each.silent or ("" if each.reported else "The supernode has not reported yet.")
        yield SupernodeState(
            name=name or SUPERNODE,
            answers=not message,
            message=message,
            volume_bytes=0 if known is None else known.volume_bytes,
            volume_free=0 if known is None else known.volume_free,
            origin_rate=0 if known is None else sum(task.origin_rate for task in known.tasks),
        )
