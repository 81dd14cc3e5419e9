"""The plan of one Peer resource: whether it shall be there, and what its status shall say. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import msgspec

from pantala_operator.resources import conditions
from pantala_operator.resources.api import PeerCache, PeerResource, PeerRuntime, PeerStatus
from pantala_operator.resources.conditions import Status, Verdict
from pantala_protocol.images import RuntimeState
from pantala_protocol.statement import PeerReport


class PeerCondition(StrEnum):
    """What a Peer's conditions speak of."""

    READY = "Ready"
    MIRROR_CONFIGURED = "MirrorConfigured"


@dataclass(frozen=True, slots=True)
class PeerPlan:
    """What follows for one node."""

    create: bool = False
    delete: bool = False
    status: PeerStatus | None = None
    """To be written when it differs; ``None``: not known."""


def plan(
    peer: PeerResource | None, report: PeerReport | None, *, on_node: bool, heard: bool, away: str, now: datetime
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


def _status(peer: PeerResource, report: PeerReport | None, verdict: Verdict, now: datetime) -> PeerStatus:
    generation = peer.metadata.generation
    former = peer.status
    away = report is None or not report.connected
    runtime = report.runtime if report is not None else None
    verdicts = {PeerCondition.READY: verdict}
    mirror = _former(former) if away or runtime is None else _mirror(runtime)
    if mirror is not None:
        verdicts[PeerCondition.MIRROR_CONFIGURED] = mirror
    merged = conditions.merge(former.conditions, verdicts, generation, now)
    if report is None or away:
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
        runtime=_runtime(runtime) if runtime is not None else former.runtime,
    )


def _runtime(said: RuntimeState) -> PeerRuntime | None:
    return PeerRuntime(said.name, said.version) if said.name else None


def _former(status: PeerStatus) -> Verdict | None:
    """What was said of the mirror last: it stays while the node says nothing."""
    found = conditions.find(status.conditions, PeerCondition.MIRROR_CONFIGURED)
    return None if found is None else Verdict(Status(found.status), found.reason, found.message)


def _mirror(said: RuntimeState) -> Verdict:
    """Whether the node's runtime asks its peer before it asks a registry."""
    if said.mirror:
        return Verdict(Status.TRUE, "Probed", said.message or "The container runtime asks the node's mirror")
    if said.mirror is False:
        return Verdict(Status.FALSE, "NotConfigured", said.message or _NOT_ASKED)
    if not said.name:
        return Verdict(Status.UNKNOWN, "RuntimeUnavailable", said.message or _NO_RUNTIME)
    return Verdict(Status.UNKNOWN, "MirrorDisabled", said.message or _NO_MIRROR)


_NOT_ASKED = "The container runtime does not ask the node's mirror; see the log of the node's peer."
_NO_RUNTIME = "The container runtime does not answer, or no runtime helper runs on the node; check the peer's pod."
_NO_MIRROR = "Whether the container runtime asks the mirror has not been tried; enable the mirror of the peers."


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
