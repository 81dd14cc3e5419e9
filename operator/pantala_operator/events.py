"""What happens in the operator: each part publishes here what it has learned. The control loop subscribes to it.

So the parts that watch, list and connect need not know the loop, and each is made before those that use it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pantala_operator.plan.prefetch.inputs import RegistryAnswer
from pantala_operator.ports import Resource
from pantala_operator.resources.prefetch import ImageKey
from pantala_protocol.statement import Changes, Member

E = TypeVar("E")

SecretKey = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class WatchStarted:
    """A watch begins. It may have missed changes since the last one ended."""


@dataclass(frozen=True, slots=True)
class ResourceChanged:
    """The watch saw a change that may matter to a plan."""

    resource: Resource
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class ListsRead:
    """A round of full lists has ended; a part of it may have failed."""


@dataclass(frozen=True, slots=True)
class WorkloadsChanged:
    """A list of workloads, namespaces or pods differs from the one before."""


@dataclass(frozen=True, slots=True)
class SecretRead:
    """A Secret differs from what was read before."""

    key: SecretKey


@dataclass(frozen=True, slots=True)
class ReplicasFound:
    """The supernodes that should run, by the flags or by their StatefulSet."""

    staying: tuple[Member, ...] = ()
    lingering: tuple[Member, ...] = ()
    """No longer wanted, but their pods may still run."""
    absent: str = ""
    """Why no supernode should run; empty: at least one should."""


@dataclass(frozen=True, slots=True)
class SupernodeReported:
    """A supernode sent its changes."""

    name: str
    changes: Changes


@dataclass(frozen=True, slots=True)
class SupernodeReachability:
    """A supernode has not answered for a while (``problem``), or answers again (empty)."""

    name: str
    problem: str


@dataclass(frozen=True, slots=True)
class StatementTaken:
    """A supernode accepted a statement. A leaving supernode may now have nothing left."""

    name: str


@dataclass(frozen=True, slots=True)
class ImageResolved:
    """A registry answered a question about an image, for the ImagePrefetch or Task ``uid``."""

    uid: str
    key: ImageKey
    answer: RegistryAnswer


@dataclass(frozen=True, slots=True)
class WriteEnded:
    """A write to the API server has succeeded or failed. Its object should be planned again.

    ``key`` is the UID of a Task or ImagePrefetch, ``peer/<name>``, ``child/<namespace>/<name>`` or ``taint/<node>``.
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
