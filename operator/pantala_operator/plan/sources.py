"""Plans a SourcePolicy: the rule for the supernodes, and its status. Pure."""

import ssl
from datetime import datetime
from enum import StrEnum
from ipaddress import ip_network
from typing import NamedTuple

from pantala_operator.resources import conditions
from pantala_operator.resources.sources import SourcePolicy, SourcePolicySpec, SourcePolicyStatus
from pantala_operator.resources.status import no, yes
from pantala_protocol.rules import sources
from pantala_protocol.statement import SourceRule

_NEVER = tuple(map(ip_network, ("0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "fe80::/10", "ff00::/8")))
"""Networks that no policy can allow. A policy for a part of them has no effect, so it is refused."""


class SourcePolicyCondition(StrEnum):
    """The types of a SourcePolicy's conditions."""

    ACCEPTED = "Accepted"


class SourcePlan(NamedTuple):
    """The decisions about one SourcePolicy."""

    rule: SourceRule | None
    """``None``: the policy allows nothing, because it is not valid or is being deleted."""
    status: SourcePolicyStatus


def plan(policy: SourcePolicy, now: datetime) -> SourcePlan:
    metadata, spec = policy.metadata, policy.spec
    fault = _fault(spec)
    verdict = _ACCEPTED if fault is None else no("Invalid", fault)
    merged = conditions.merge(
        policy.status.conditions, {SourcePolicyCondition.ACCEPTED: verdict}, metadata.generation, now
    )
    rule = SourceRule(
        metadata.name,
        hosts=spec.hosts,
        networks=spec.cidrs,
        ports=spec.ports,
        authorities=spec.ca_bundle,
        max_bytes=spec.limits.max_bytes,
    )
    valid = fault is None and metadata.deletion_timestamp is None
    return SourcePlan(rule if valid else None, SourcePolicyStatus(metadata.generation, merged))


def _fault(spec: SourcePolicySpec) -> str | None:
    """What is wrong with the spec, and what to do. ``None``: it is valid."""
    if not spec.hosts and not spec.cidrs:
        return "The policy names no source. Set spec.hosts, spec.cidrs or both."
    for host in spec.hosts:
        if not sources.is_host(host):
            return f"{host} in spec.hosts is not a host name. Write a name such as files.corp there."
    for text in spec.cidrs:
        try:
            network = sources.network(text)
        except ValueError as error:
            return f"{text} in spec.cidrs {error}. Correct it."
        for forbidden in _NEVER:
            if network.version == forbidden.version and network.subnet_of(forbidden):  # type: ignore[arg-type]
                return f"{text} in spec.cidrs is within {forbidden}, which is never read. Remove it."
    if spec.ca_bundle:
        # Comments between certificates may have any characters, but ssl accepts only ASCII.
        bundle = spec.ca_bundle.encode("ascii", "replace").decode("ascii")
        try:
            ssl.create_default_context(cadata=bundle)
        except (ssl.SSLError, ValueError):
            return "spec.caBundle has no readable certificate. Write certificates in PEM."
    return None


_ACCEPTED = yes("Accepted", "The supernodes apply the policy")
