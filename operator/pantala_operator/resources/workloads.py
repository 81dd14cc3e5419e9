"""Kubernetes' own resources, as far as the operator reads them. Unknown fields are ignored. Pure."""

from typing import Any

import msgspec

from pantala_operator.resources.api import Metadata


class ForeignObject(msgspec.Struct, frozen=True):
    """An object of any kind, with an uninterpreted spec."""

    metadata: Metadata
    spec: dict[str, Any] = {}


class Ordinals(msgspec.Struct, frozen=True):
    """The number of a StatefulSet's first pod."""

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
