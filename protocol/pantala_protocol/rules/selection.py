"""What labels, selectors, taints and tolerations mean, as Kubernetes defines them. Pure."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec


class Taint(msgspec.Struct, frozen=True):
    """A node's taint."""

    key: str
    effect: str
    value: str = ""


class Toleration(msgspec.Struct, frozen=True):
    """A toleration of taints, as in a pod's spec."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""

    def tolerates(self, taint: Taint) -> bool:
        if self.effect and self.effect != taint.effect:
            return False
        if self.operator == "Exists":
            return not self.key or self.key == taint.key
        return self.key == taint.key and self.value == taint.value


HEALTH: Final = frozenset({"node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"})
"""The taints that report a node's health. A file stays on a node with such a taint."""
_CORDONED: Final = Taint("node.kubernetes.io/unschedulable", "NoSchedule")
_EXCLUDING: Final = frozenset({"NoSchedule", "NoExecute"})


def excluding(taints: Iterable[Taint], tolerations: Iterable[Toleration], *, cordoned: bool) -> Taint | None:
    """The first taint that excludes a node, and that is not tolerated. ``None``: no taint excludes it."""
    strict = [taint for taint in taints if taint.effect in _EXCLUDING and taint.key not in HEALTH]
    if cordoned and all(taint.key != _CORDONED.key for taint in strict):
        strict.append(_CORDONED)
    return next((taint for taint in strict if not any(each.tolerates(taint) for each in tolerations)), None)


class LabelRequirement(msgspec.Struct, frozen=True):
    """One requirement on a label."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels
        return False


class LabelSelector(msgspec.Struct, frozen=True, rename="camel"):
    """A label selector of Kubernetes. An empty selector matches everything."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[LabelRequirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        expressions = all(each.matches(labels) for each in self.match_expressions)
        return has_labels(labels, self.match_labels) and expressions


def has_labels(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return wanted.items() <= labels.items()
