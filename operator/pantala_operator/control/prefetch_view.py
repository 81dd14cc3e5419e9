"""The part of the observation that the plans of all objects with images share in one turn."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from pantala_operator.plan import image_task
from pantala_operator.plan.prefetch.inputs import OwnedTask
from pantala_operator.plan.secrets import SecretReading
from pantala_operator.plan.targets import ClusterNodes
from pantala_operator.resources.status import Obstacle
from pantala_operator.watch.observation import Observation
from pantala_protocol.images import PullState, RuntimeState


@dataclass(frozen=True, slots=True)
class SharedView:
    """The data that all plans of one turn share."""

    cluster: ClusterNodes
    pulls: Mapping[str, Mapping[str, Mapping[str, PullState]]]
    """The states of the nodes' pulls: namespace -> Task -> node -> state."""
    runtimes: Mapping[str, RuntimeState]
    tasks: Mapping[str, list[OwnedTask]]
    """All Tasks, by namespace."""
    secrets: Mapping[str, Mapping[str, SecretReading]]
    """The Secrets that were read: namespace -> name -> reading."""
    cut: Mapping[str, Mapping[str, Obstacle]]
    """The images for which a statement had no room: namespace -> Task -> obstacle."""
    reported: bool
    """True if all peers have reported since the supernodes started, or have had enough time to report."""
    away: str

    @classmethod
    def of(cls, known: Observation, *, reported: bool) -> Self:
        reports = known.supernodes.peers
        pulls: dict[str, dict[str, dict[str, PullState]]] = {}
        for node, report in reports.items():
            for key, state in report.pulls.items():
                namespace, _, name = key.partition("/")
                pulls.setdefault(namespace, {}).setdefault(name, {})[node] = state
        tasks: dict[str, list[OwnedTask]] = {}
        prefetches = {each.metadata.uid: each for each in known.prefetches.items.values()}
        for each in known.tasks.items.values():
            tasks.setdefault(each.metadata.namespace, []).append(image_task.owned(each, prefetches))
        secrets: dict[str, dict[str, SecretReading]] = {}
        for (namespace, name), reading in known.secrets.items():
            secrets.setdefault(namespace, {})[name] = reading
        cut: dict[str, dict[str, Obstacle]] = {}
        for key, why in (item for each in known.cut.values() for item in each.items()):
            namespace, slash, name = key.partition("/")
            if slash:
                cut.setdefault(namespace, {})[name] = why
        return cls(
            cluster=ClusterNodes(known.nodes.items, known.peer_states()),
            pulls=pulls,
            runtimes={name: report.runtime for name, report in reports.items() if report.runtime is not None},
            tasks=tasks,
            secrets=secrets,
            cut=cut,
            reported=reported,
            away=known.supernodes.away,
        )
