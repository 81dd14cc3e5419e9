"""Plans one Peer resource: whether it must exist, and what its status says. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import msgspec

from pantala_operator.plan.nodes import Trouble
from pantala_operator.resources import conditions
from pantala_operator.resources.api import PeerCache, PeerResource, PeerRuntime, PeerStatus
from pantala_operator.resources.conditions import Condition, ConditionStatus, Verdict
from pantala_operator.resources.status import Notice, advised, kept, no, unavailable, yes
from pantala_protocol.images import RuntimeState
from pantala_protocol.reasons import Reason, of_image
from pantala_protocol.rules import quantity
from pantala_protocol.statement import MAX_CLOCK_SKEW, PeerReport


class PeerCondition(StrEnum):
    """The types of a Peer's conditions."""

    READY = "Ready"
    MIRROR_CONFIGURED = "MirrorConfigured"
    CLOCK_SYNCHRONIZED = "ClockSynchronized"


@dataclass(frozen=True, slots=True)
class PeerPlan:
    """The decisions about the Peer of one node."""

    create: bool = False
    delete: bool = False
    status: PeerStatus | None = None
    """The new status. ``None``: the former status stays."""


@dataclass(frozen=True, slots=True)
class ObservedPeer:
    """What the operator has observed about one peer, besides its resource."""

    report: PeerReport | None = None
    on_node: bool = True
    """True if the Node exists."""
    reconnected: bool = False
    """True if peers have had enough time to reconnect to their supernode."""
    away: str = ""
    """Why no supernode answers. Empty if a supernode answers."""
    silence: Trouble | None = None
    """Why the peer does not report to the supernodes. ``None`` if it does."""
    zone: str = ""
    """The zone of the Node."""


def plan(peer: PeerResource | None, observed: ObservedPeer, now: datetime) -> PeerPlan:
    report = observed.report
    if not observed.on_node:
        return PeerPlan(delete=peer is not None)
    if peer is None:
        return PeerPlan(create=report is not None and report.connected)
    if observed.away:
        verdict = unavailable(observed.away)._replace(status=ConditionStatus.UNKNOWN)
    elif observed.silence is not None:
        verdict = no(observed.silence.reason, observed.silence.text)
    elif report is not None and report.connected:
        verdict = yes("Connected", "The peer is connected to a supernode")
    elif observed.reconnected:
        verdict = no("Disconnected", "The peer is not connected to a supernode. Check the peer's pod on this node")
    else:
        return PeerPlan()
    connected = report if report is not None and report.connected else None
    return PeerPlan(status=_status(peer, connected, verdict, observed.zone, now))


def _status(peer: PeerResource, report: PeerReport | None, verdict: Verdict, zone: str, now: datetime) -> PeerStatus:
    """``report``: ``None`` while the peer is not connected."""
    generation = peer.metadata.generation
    former = peer.status
    clock = _clock(report.clock_ahead) if report is not None and report.clock_ahead is not None else None
    mirror = _mirror(report.runtime) if report is not None and report.runtime is not None else None
    verdicts = {PeerCondition.READY: verdict}
    for kind, found in ((PeerCondition.CLOCK_SYNCHRONIZED, clock), (PeerCondition.MIRROR_CONFIGURED, mirror)):
        if found is not None or conditions.find(former.conditions, kind) is not None:
            verdicts[kind] = found or kept(former.conditions, kind)
    merged = conditions.merge(former.conditions, verdicts, generation, now)
    if report is None:
        return msgspec.structs.replace(
            former, observed_generation=generation, conditions=merged, zone=zone or former.zone, uploads=0
        )
    return PeerStatus(
        observed_generation=generation,
        conditions=merged,
        address=_address(report.address, report.port),
        zone=zone or report.zone,
        version=report.version,
        cache=PeerCache(report.cache_bytes, report.tasks, quantity.render(report.cache_bytes)),
        uploads=report.uploads,
        succeeded=report.succeeded,
        failed=report.failed,
        runtime=_runtime(report.runtime) if report.runtime is not None else former.runtime,
    )


def _runtime(runtime: RuntimeState) -> PeerRuntime | None:
    return PeerRuntime(runtime.name, runtime.version) if runtime.name else None


def _mirror(runtime: RuntimeState) -> Verdict:
    """The condition ``MirrorConfigured``: whether the node's runtime asks the peer before it asks a registry."""
    if runtime.mirror:
        return yes("Probed", runtime.message or "The container runtime uses the node's mirror")
    if runtime.mirror is False:
        return no("NotConfigured", runtime.message or _NOT_USED)
    if not runtime.name:
        reason = Reason.RUNTIME_UNAVAILABLE
        return Verdict(ConditionStatus.UNKNOWN, reason, advised(runtime.message or _NO_RUNTIME, of_image(reason)))
    return Verdict(ConditionStatus.UNKNOWN, "MirrorDisabled", runtime.message or _NO_MIRROR)


def _clock(ahead: int) -> Verdict:
    """The condition ``ClockSynchronized``: whether the node's clock agrees with the API server's clock."""
    if abs(ahead) <= MAX_CLOCK_SKEW:
        return yes("Synchronized", "The node's clock agrees with the API server's clock")
    where = "ahead of" if ahead > 0 else "behind"
    what = f"The node's clock is {abs(ahead)} s {where} the API server's clock"
    return no(Reason.CLOCK_SKEWED, advised(what, of_image(Reason.CLOCK_SKEWED)))


def notices(former: Iterable[Condition], latter: Iterable[Condition]) -> Iterator[Notice]:
    """The Events for a Peer that gets into trouble, and for its recovery."""
    before = {each.type: each for each in former}
    for each in latter:
        old = before.get(each.type)
        if each.type not in (PeerCondition.READY, PeerCondition.CLOCK_SYNCHRONIZED) or old is None:
            continue
        if each.status == ConditionStatus.FALSE and (old.status, old.reason) != (each.status, each.reason):
            yield Notice(True, each.reason, each.message)
        elif each.status == ConditionStatus.TRUE and old.status == ConditionStatus.FALSE:
            yield Notice(False, each.reason, each.message)


_NOT_USED = "The container runtime does not use the node's mirror. Read the log of the node's peer."
_NO_RUNTIME = "The container runtime or the runtime helper does not answer on the node."
_NO_MIRROR = "The peer's mirror is off. To turn it on, set the chart's value mirror.enabled."


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
