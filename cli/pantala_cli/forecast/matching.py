"""Which nodes a target selects, as the operator chooses them. A test compares both. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from pantala_cli.access.kinds import Resource, labels
from pantala_protocol.rules.selection import LabelSelector, Taint, Toleration, excluding


class Match(NamedTuple):
    """The nodes that a target selects."""

    nodes: tuple[str, ...]
    """The nodes that may get the content. ``limit`` may choose only some of them."""
    limit: int | None
    """How many of the nodes get the content. ``None``: all."""
    passed_over: Mapping[str, str]
    """The nodes that match by name and labels but get nothing, each with the reason."""

    @property
    def expected(self) -> int:
        """How many nodes get the content."""
        return len(self.nodes) if self.limit is None else min(self.limit, len(self.nodes))


def match(
    target: Mapping[str, Any], nodes: Iterable[Resource], peers: Iterable[Resource], pods: Iterable[Resource] = ()
) -> Match:
    """Choose among ``nodes``. ``pods``: the pods of the namespace, for a target with a pod selector."""
    by_name = {peer["metadata"]["name"]: peer for peer in peers}
    names, wanted = target.get("names") or (), target.get("nodeSelector") or {}
    with_pods = _with_pods(target.get("podSelector"), pods)
    chosen, passed_over = [], {}
    for node in sorted(nodes, key=lambda each: str(each["metadata"]["name"])):
        name = node["metadata"]["name"]
        if (names and name not in names) or not wanted.items() <= labels(node).items():
            continue
        if with_pods is not None and name not in with_pods:
            continue
        why = _excluded(target, node, by_name.get(name))
        if why:
            passed_over[name] = why
        else:
            chosen.append(name)
    return Match(tuple(chosen), _limit(target, len(chosen)), passed_over)


def _excluded(target: Mapping[str, Any], node: Resource, peer: Resource | None) -> str:
    if peer is None:
        return "no peer runs on it"
    if (peer.get("spec") or {}).get("unschedulable"):
        return "its peer is drained"
    spec = node.get("spec") or {}
    taints = msgspec.convert(spec.get("taints") or (), tuple[Taint, ...])
    tolerations = msgspec.convert(target.get("tolerations") or (), tuple[Toleration, ...])
    taint = excluding(taints, tolerations, cordoned=spec.get("unschedulable", False))
    if taint is None:
        return ""
    return f"its taint {taint.key}{taint.value and f'={taint.value}'}:{taint.effect} is not tolerated"


def _limit(target: Mapping[str, Any], candidates: int) -> int | None:
    if target.get("count") is not None:
        return int(target["count"])
    if target.get("percentage") is not None:
        return -(-candidates * int(target["percentage"]) // 100)
    return None


def _with_pods(selector: Mapping[str, Any] | None, pods: Iterable[Resource]) -> set[str] | None:
    """The nodes that have a selected pod. ``None``: the target does not select pods."""
    if selector is None:
        return None
    wanted = msgspec.convert(selector, LabelSelector)
    return {str(pod["spec"].get("nodeName", "")) for pod in pods if wanted.matches(labels(pod))}
