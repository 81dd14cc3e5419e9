"""What Kubernetes runs, as far as the operator follows it; unknown fields are passed over. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from pantala_operator.resources.api import Metadata


class WorkloadSpec(msgspec.Struct, frozen=True):
    """What a Deployment, StatefulSet or DaemonSet runs."""

    template: dict[str, Any] = {}


class WorkloadBody(msgspec.Struct, frozen=True):
    """A Deployment, StatefulSet or DaemonSet."""

    metadata: Metadata
    spec: WorkloadSpec = WorkloadSpec()


class PodSpec(msgspec.Struct, frozen=True, rename="camel"):
    """Where a pod is."""

    node_name: str = ""


class PodBody(msgspec.Struct, frozen=True):
    """A pod."""

    metadata: Metadata
    spec: PodSpec = PodSpec()


class Namespace(msgspec.Struct, frozen=True):
    """A namespace."""

    metadata: Metadata


class Ordinals(msgspec.Struct, frozen=True):
    """How the pods of a StatefulSet are numbered."""

    start: int = 0


class StatefulSetSpec(msgspec.Struct, frozen=True, rename="camel"):
    """What a StatefulSet shall be."""

    service_name: str = ""
    replicas: int = 1
    ordinals: Ordinals = Ordinals()


class StatefulSetStatus(msgspec.Struct, frozen=True):
    """What it is."""

    replicas: int = 0
    """Pods that there are, those that end included."""


class StatefulSet(msgspec.Struct, frozen=True):
    """The supernodes' StatefulSet."""

    metadata: Metadata
    spec: StatefulSetSpec = StatefulSetSpec()
    status: StatefulSetStatus = StatefulSetStatus()
