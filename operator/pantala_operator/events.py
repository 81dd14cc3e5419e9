"""The events inside the operator. Each part publishes its observations, and the control loop subscribes to them.

So the parts that watch, list and connect do not depend on the loop.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pantala_operator.plan.prefetch.inputs import RegistryAnswer
from pantala_operator.ports import Resource
from pantala_operator.resources.prefetch import ImageKey
from pantala_operator.resources.status import Obstacle
from pantala_protocol.console.progress import Progress
from pantala_protocol.statement import Changes, Member, WantedTask

E = TypeVar("E")

SecretKey = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class WatchStarted:
    """A watch begins. Changes between the end of the previous watch and now may be missing."""


@dataclass(frozen=True, slots=True)
class ResourceChanged:
    """The watch saw a change that may matter to a plan."""

    resource: Resource
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class StatusWritten:
    """The API server stored a status of this operator. The watch may have no event for it: it skips known versions."""

    resource: Resource


@dataclass(frozen=True, slots=True)
class ListsRead:
    """A round of full lists has ended. Some of its lists may have failed."""


@dataclass(frozen=True, slots=True)
class WorkloadsChanged:
    """A new list of workloads, namespaces or pods differs from the previous list."""


@dataclass(frozen=True, slots=True)
class SecretRead:
    """A Secret was read, and its content differs from the previous reading."""

    key: SecretKey


@dataclass(frozen=True, slots=True)
class ReplicasFound:
    """The supernodes that the flags list or that the StatefulSet counts."""

    staying: tuple[Member, ...] = ()
    lingering: tuple[Member, ...] = ()
    """Supernodes that are scaled away, but whose pods may still run."""
    absent: str = ""
    """Why no supernode should run. Empty if at least one supernode should run."""


@dataclass(frozen=True, slots=True)
class SupernodeReported:
    """A supernode sent its changes."""

    name: str
    changes: Changes


@dataclass(frozen=True, slots=True)
class ProgressReported:
    """A supernode sent the progress of its downloads. ``None``: it did not answer, or its version sends no progress."""

    name: str
    progress: Progress | None


@dataclass(frozen=True, slots=True)
class SilenceChanged:
    """The silent peers, or the reasons of their silence, changed."""


@dataclass(frozen=True, slots=True)
class SupernodeReachability:
    """A supernode has not answered for a while, because of ``problem``. With an empty ``problem``, it answers again."""

    name: str
    problem: str


@dataclass(frozen=True, slots=True)
class StatementTaken:
    """A supernode accepted a statement. If it is leaving, it may now have no tasks left."""

    name: str
    tasks: tuple[WantedTask, ...] = ()
    """The tasks as they were sent."""
    revision: int = 0
    cut: Mapping[str, Obstacle] = field(default_factory=dict)
    """The tasks and images for which the statement had no room, as in ``FittedStatement.cut``."""


@dataclass(frozen=True, slots=True)
class ImageResolved:
    """A registry answered a question about an image, for the ImagePrefetch or Task ``uid``."""

    uid: str
    key: ImageKey
    answer: RegistryAnswer


@dataclass(frozen=True, slots=True)
class LeadershipChanged:
    """This replica begins or ends to lead."""

    leads: bool


@dataclass(frozen=True, slots=True)
class WriteEnded:
    """A write to the API server has succeeded or failed. Its object should be planned again.

    ``key`` is the UID of a Task or ImagePrefetch, ``peer/<name>``, ``sourcepolicy/<name>``,
    ``child/<namespace>/<name>``, ``taint/<node>`` or ``node/<node>``.
    """

    key: str


class OperatorEvents:
    """Calls the subscribers of an event's type at once, in the order they subscribed."""

    def __init__(self) -> None:
        self._subscribers: dict[type, list[Callable[[Any], None]]] = {}

    def subscribe(self, kind: type[E], on_event: Callable[[E], None]) -> None:
        self._subscribers.setdefault(kind, []).append(on_event)

    def publish(self, event: object) -> None:
        for on_event in self._subscribers.get(type(event), ()):
            on_event(event)
