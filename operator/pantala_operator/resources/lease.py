"""The Lease that decides which replica of the operator leads. Pure."""

from datetime import UTC, datetime
from typing import Any, Self

import msgspec

from pantala_operator.resources.api import Metadata


class LeaseSpec(msgspec.Struct, frozen=True, rename="camel"):
    """The fields of a Lease that the election uses.

    The election does not compare the times, because clocks may differ. They only inform users.
    """

    holder_identity: str | None = None
    """The leading replica. Empty: no replica leads."""
    lease_duration_seconds: int | None = None
    """Another replica takes the Lease if it does not change for this time."""
    lease_transitions: int | None = None
    """How often the Lease has changed its holder."""
    acquire_time: str | None = None
    renew_time: str | None = None


class LeaseResource(msgspec.Struct, frozen=True):
    """A Lease of the group ``coordination.k8s.io``."""

    metadata: Metadata
    spec: LeaseSpec = LeaseSpec()

    @property
    def holder(self) -> str:
        return self.spec.holder_identity or ""

    @property
    def transitions(self) -> int:
        return self.spec.lease_transitions or 0

    def held(self, holder: str, transitions: int, duration: int, now: datetime) -> Self:
        """The Lease as ``holder`` writes it. An empty ``holder`` releases it."""
        time = micro_time(now)
        same = holder == self.holder
        spec = LeaseSpec(holder, duration, transitions, self.spec.acquire_time if same else time, time)
        return msgspec.structs.replace(self, spec=spec)

    def body(self) -> dict[str, Any]:
        """The JSON object for the API server. It replaces the whole object, so it repeats the marks of Helm."""
        metadata: dict[str, Any] = {"name": self.metadata.name, "namespace": self.metadata.namespace}
        for name in ("labels", "annotations"):
            if marks := getattr(self.metadata, name):
                metadata[name] = marks
        if self.metadata.resource_version:
            metadata["resourceVersion"] = self.metadata.resource_version
        spec = msgspec.to_builtins(self.spec)
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}


def micro_time(now: datetime) -> str:
    """A time as Leases have it, with six digits of a second."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
