"""Finds the Tasks that exceed the quota of their namespace. Pure."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime

from pantala_operator.resources.api import Metadata, TaskResource
from pantala_operator.resources.status import Obstacle
from pantala_protocol.reasons import Reason
from pantala_protocol.rules.quotas import Quotas

_NEVER = datetime.max.replace(tzinfo=UTC)


def age(metadata: Metadata) -> tuple[datetime, str]:
    """The key that sorts objects by age, the oldest first."""
    return metadata.creation_timestamp or _NEVER, metadata.uid


def excess(tasks: Iterable[TaskResource], quotas: Quotas) -> dict[str, Obstacle]:
    """The youngest Tasks of each namespace that has too many, by UID, with the obstacle for their conditions.

    Tasks with an image do not count: the operator makes most of them itself.
    """
    if not quotas:
        return {}
    found: dict[str, Obstacle] = {}
    by_namespace: defaultdict[str, list[TaskResource]] = defaultdict(list)
    for task in tasks:
        if quotas.of(task.metadata.namespace).tasks is not None:
            by_namespace[task.metadata.namespace].append(task)
    for namespace, each in by_namespace.items():
        limit = quotas.of(namespace).tasks
        what = f"The namespace {namespace} has {len(each)} Tasks, but its quota allows only {limit}"
        for task in sorted(each, key=lambda task: age(task.metadata))[limit:]:
            found[task.metadata.uid] = Obstacle.of(Reason.QUOTA_EXCEEDED, what)
    return found
