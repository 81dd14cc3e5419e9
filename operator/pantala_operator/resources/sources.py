"""The SourcePolicy resource, as far as the operator needs it. Unknown fields are ignored. Pure."""

from typing import ClassVar

import msgspec

from pantala_operator.resources.api import Metadata
from pantala_operator.resources.conditions import Condition


class SourceLimits(msgspec.Struct, frozen=True, rename="camel"):
    """The limits of a policy."""

    max_bytes: int | None = None


class SourcePolicySpec(msgspec.Struct, frozen=True, rename="camel"):
    """The spec of a SourcePolicy, as an administrator writes it."""

    hosts: tuple[str, ...] = ()
    cidrs: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    ca_bundle: str = ""
    limits: SourceLimits = SourceLimits()


class SourcePolicyStatus(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The status of a SourcePolicy."""

    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()


class SourcePolicy(msgspec.Struct, frozen=True):
    """One SourcePolicy."""

    kind: ClassVar = "SourcePolicy"
    plural: ClassVar = "sourcepolicies"
    metadata: Metadata
    spec: SourcePolicySpec = SourcePolicySpec()
    status: SourcePolicyStatus = SourcePolicyStatus()
