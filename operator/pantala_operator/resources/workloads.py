"""Kubernetes' own resources, as far as the operator reads them. Unknown fields are ignored. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from pantala_operator.resources.api import Metadata


class WorkloadSpec(msgspec.Struct, frozen=True):
    """Of a Deployment, StatefulSet or DaemonSet."""

    template: dict[str, Any] = {}


class WorkloadBody(msgspec.Struct, frozen=True):
    """A Deployment, StatefulSet or DaemonSet."""

    metadata: Metadata
    spec: WorkloadSpec = WorkloadSpec()


class PodSpec(msgspec.Struct, frozen=True, rename="camel"):
    """The node of a pod."""

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
    """The desired pods of a StatefulSet."""

    service_name: str = ""
    replicas: int = 1
    ordinals: Ordinals = Ordinals()


class StatefulSetStatus(msgspec.Struct, frozen=True):
    """The actual pods of a StatefulSet."""

    replicas: int = 0
    """Existing pods, including those that are ending."""


class StatefulSet(msgspec.Struct, frozen=True):
    """The supernodes' StatefulSet."""

    metadata: Metadata
    spec: StatefulSetSpec = StatefulSetSpec()
    status: StatefulSetStatus = StatefulSetStatus()
