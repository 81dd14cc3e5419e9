"""The plan of one Peer resource: whether it shall be there, and what its status shall say. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import msgspec

from pantala_operator import conditions
from pantala_operator.conditions import ConditionType, Status, Verdict
from pantala_operator.resources import Peer, PeerCache, PeerStatus
from pantala_protocol.statement import PeerReport


@dataclass(frozen=True, slots=True)
class PeerPlan:
    """What follows for one node."""

    create: bool = False
    delete: bool = False
    status: PeerStatus | None = None
    """To be written when it differs; ``None``: not known."""


def plan(
    peer: Peer | None, report: PeerReport | None, *, on_node: bool, heard: bool, away: str, now: datetime
) -> PeerPlan:
    """Plan the Peer of one node.

    ``on_node``: the Node exists. ``heard``: the supernode had the time to name those connected to it. ``away``: why
    it cannot be asked; empty: it can.
    """
    if not on_node:
        return PeerPlan(delete=peer is not None)
    if peer is None:
        return PeerPlan(create=report is not None and report.connected)
    if away:
        verdict = Verdict(Status.UNKNOWN, "SupernodeUnavailable", f"The supernode cannot be asked: {away}")
    elif report is not None and report.connected:
        verdict = Verdict(Status.TRUE, "Connected", "The peer is connected to its supernode")
    elif heard:
        verdict = Verdict(Status.FALSE, "Disconnected", "The peer is not connected; check its pod on this node")
    else:
        return PeerPlan()
    return PeerPlan(status=_status(peer, report, verdict, now))


def _status(peer: Peer, report: PeerReport | None, verdict: Verdict, now: datetime) -> PeerStatus:
    generation = peer.metadata.generation
    former = peer.status
    merged = conditions.merge(former.conditions, {ConditionType.READY: verdict}, generation, now)
    if report is None or not report.connected:
        return msgspec.structs.replace(former, observed_generation=generation, conditions=merged, uploads=0)
    return PeerStatus(
        observed_generation=generation,
        conditions=merged,
        address=_address(report.address, report.port),
        zone=report.zone,
        version=report.version,
        cache=PeerCache(report.cache_bytes, report.tasks),
        uploads=report.uploads,
        succeeded=report.succeeded,
        failed=report.failed,
    )


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
