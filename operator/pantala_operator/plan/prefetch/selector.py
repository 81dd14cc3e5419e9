"""Label selectors, as Kubernetes means them. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from pantala_operator.resources.prefetch import LabelSelector, Requirement


def matches(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether ``labels`` meet all of ``selector``; an empty one is met by all."""
    return has_all(selector.match_labels, labels) and all(_meets(each, labels) for each in selector.match_expressions)


def has_all(wanted: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether ``labels`` has each of ``wanted``."""
    return all(labels.get(key) == value for key, value in wanted.items())


def _meets(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    match requirement.operator:
        case "In":
            return labels.get(requirement.key) in requirement.values
        case "NotIn":
            return labels.get(requirement.key) not in requirement.values
        case "Exists":
            return requirement.key in labels
        case "DoesNotExist":
            return requirement.key not in labels
    return False
