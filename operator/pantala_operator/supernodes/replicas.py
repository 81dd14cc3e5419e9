"""Which supernodes there shall be: by a list of URLs, or by what the StatefulSet says of its replicas. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from pantala_operator.resources.workloads import StatefulSet
from pantala_protocol.membership import Member

Address = Callable[[StatefulSet, str], str]
"""Gives the base URL of a pod's API."""


@dataclass(frozen=True, slots=True)
class Replicas:
    """The supernodes."""

    staying: tuple[Member, ...] = ()
    lingering: tuple[Member, ...] = ()
    """No longer wanted, but their pods may still be there."""
    absent: str = ""
    """Why none shall be there."""


def of_urls(urls: Sequence[str]) -> Replicas:
    """One supernode has no name, since it has nobody to be told from; several are named by host and port."""
    if len(urls) == 1:
        return Replicas((Member("", urls[0]),))
    return Replicas(tuple(Member(urlsplit(url).netloc.rpartition("@")[2], url) for url in urls))


def of_stateful_set(found: StatefulSet, address: Address) -> Replicas:
    """``spec.replicas`` says who stays, whether its pod is up or not; ``status.replicas`` counts the pods there are."""
    spec, name = found.spec, found.metadata.name
    names = [f"{name}-{spec.ordinals.start + number}" for number in range(max(spec.replicas, found.status.replicas))]
    members = tuple(Member(each, address(found, each)) for each in names)
    absent = "" if spec.replicas else f"the StatefulSet {found.metadata.key} is scaled to 0; scale it to 1 or more"
    return Replicas(members[: spec.replicas], members[spec.replicas :], absent)


def service_address(found: StatefulSet, pod: str) -> str:
    """The name that a StatefulSet's headless Service gives to a pod."""
    return f"http://{pod}.{found.spec.service_name}.{found.metadata.namespace}:8002"
