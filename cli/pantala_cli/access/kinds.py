"""The kinds of resources that the commands read, with all names by which users know them. Pure."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pantala_protocol.rules import requests

Resource = dict[str, Any]
"""A resource as the API server returns it."""

PANTALA = "pantala.dev/v1alpha1"

PART_OF = "app.kubernetes.io/part-of"
COMPONENT = "app.kubernetes.io/component"
INSTANCE = "app.kubernetes.io/instance"
VERSION = "app.kubernetes.io/version"
OURS = f"{PART_OF}=pantala"
"""The label selector of all objects that the chart installs."""


class ResourceKind(NamedTuple):
    """A kind of resource, and where the API server has it."""

    kind: str
    plural: str
    api: str = "v1"
    namespaced: bool = True
    words: tuple[str, ...] = ()
    """All words for this kind in commands."""

    @property
    def group(self) -> str:
        return self.api.partition("/")[0] if "/" in self.api else ""

    @property
    def singular(self) -> str:
        return self.kind.lower()

    @property
    def many(self) -> str:
        """The plural for messages, such as ``ImagePrefetches``."""
        return self.kind + self.plural.removeprefix(self.singular)

    def printed(self, name: str) -> str:
        """An object's name as kubectl prints it, such as ``task.pantala.dev/model``."""
        return f"{self.singular}.{self.group}/{name}"

    def called(self, namespace: str | None, name: str) -> str:
        """An object's name in messages, such as ``Task default/model``."""
        return f"{self.kind} {namespace}/{name}" if self.namespaced else f"{self.kind} {name}"


TASK = ResourceKind("Task", "tasks", PANTALA, words=("task", "tasks", "pt", "tasks.pantala.dev", "task.pantala.dev"))
IMAGE = ResourceKind(
    "ImagePrefetch",
    "imageprefetches",
    PANTALA,
    words=(
        *("image", "images", "imgp", "imageprefetch", "imageprefetches"),
        *("imageprefetches.pantala.dev", "imageprefetch.pantala.dev"),
    ),
)
PEER = ResourceKind(
    "Peer", "peers", PANTALA, namespaced=False, words=("peer", "peers", "pp", "peers.pantala.dev", "peer.pantala.dev")
)
SHOWN = (TASK, IMAGE, PEER)
"""The kinds that ``get`` shows."""

POD = ResourceKind("Pod", "pods")
NODE = ResourceKind("Node", "nodes", namespaced=False)
NAMESPACE = ResourceKind("Namespace", "namespaces", namespaced=False)
DAEMON_SET = ResourceKind("DaemonSet", "daemonsets", "apps/v1")
STATEFUL_SET = ResourceKind("StatefulSet", "statefulsets", "apps/v1")
DEPLOYMENT = ResourceKind("Deployment", "deployments", "apps/v1")
NETWORK_POLICY = ResourceKind("NetworkPolicy", "networkpolicies", "networking.k8s.io/v1")
CLAIM = ResourceKind("PersistentVolumeClaim", "persistentvolumeclaims")
CRD = ResourceKind("CustomResourceDefinition", "customresourcedefinitions", "apiextensions.k8s.io/v1", namespaced=False)


def named(word: str) -> ResourceKind | None:
    """The kind that a user means by ``word``. ``None`` if the word names no kind."""
    return next((kind for kind in SHOWN if word.lower() in kind.words), None)


def selector_of(component: str) -> str:
    """The label selector of one process's objects."""
    return f"{OURS},{COMPONENT}={component}"


def labels(resource: Resource) -> dict[str, str]:
    return resource["metadata"].get("labels") or {}


def key_of(resource: Mapping[str, Any]) -> tuple[str, str]:
    """The namespace (empty without one) and the name."""
    return resource["metadata"].get("namespace", ""), resource["metadata"]["name"]


def status_of(resource: Mapping[str, Any]) -> Mapping[str, Any]:
    return resource.get("status") or {}


def condition(resource: Mapping[str, Any], kind: str) -> Mapping[str, str]:
    """Return the condition of a type. It is empty if the condition is missing or describes an older generation."""
    generation = resource["metadata"].get("generation", 0)
    for each in status_of(resource).get("conditions") or ():
        if each["type"] == kind and each.get("observedGeneration", generation) >= generation:
            return dict(each)
    return {}


def is_current(resource: Mapping[str, Any]) -> bool:
    """True if the status is about the newest request for another attempt."""
    handled: str = status_of(resource).get("lastHandledRequest", "")
    return handled == requests.requested(resource["metadata"].get("annotations") or {}, handled)
