"""Collects the facts for the checks.

A fact that the user may not read is missing, and the checks continue without it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from pantala_cli.access import kinds
from pantala_cli.access.cluster import Cluster, of_one_place
from pantala_cli.access.kinds import COMPONENT, OURS, PANTALA, Resource, ResourceKind, labels
from pantala_cli.access.options import UserAccess
from pantala_cli.errors import CLIError, NotInstalledError, ObjectMissingError
from pantala_protocol.console.views import Console

_Fact = TypeVar("_Fact")


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts about the cluster, and about Pantala in the cluster."""

    version: str
    nodes: tuple[Resource, ...] = ()
    crds: tuple[Resource, ...] = ()
    peers: tuple[Resource, ...] = ()
    pods: tuple[Resource, ...] = ()
    """Pantala's pods."""
    workloads: tuple[Resource, ...] = ()
    """Pantala's Deployments, StatefulSets and DaemonSets."""
    claims: tuple[Resource, ...] = ()
    """The claims in Pantala's namespace that the supernodes use."""
    policies: tuple[Resource, ...] = ()
    """All NetworkPolicies in Pantala's namespace."""
    namespace: Resource | None = None
    """Pantala's namespace."""
    console: Console | None = None
    missing: dict[str, str] = field(default_factory=dict)
    """What could not be read, and why."""

    def of(self, component: str) -> list[Resource]:
        """Pantala's pods of one process."""
        return [pod for pod in self.pods if labels(pod).get(COMPONENT) == component]

    @property
    def home(self) -> str:
        """The name of Pantala's namespace. Empty: not found."""
        found = self.workloads or self.pods
        return str(found[0]["metadata"]["namespace"]) if found else ""


def collect(cluster: Cluster, access: UserAccess) -> Facts:
    """Ask the API server and the console.

    Raises :class:`CLIError` if the API server does not answer, and the errors of :func:`of_one_place`.
    """
    version = cluster.version()
    missing: dict[str, str] = {}

    def listed(kind: ResourceKind, namespace: str | None, selector: str = "") -> tuple[Resource, ...]:
        return tuple(_try(missing, kind.plural, lambda: cluster.objects(kind, namespace, selector), []))

    workloads: list[Resource] = []
    for kind in (kinds.DEPLOYMENT, kinds.STATEFUL_SET, kinds.DAEMON_SET):
        workloads += listed(kind, access.home or None, OURS)
    pods = listed(kinds.POD, access.home or None, OURS)
    home = of_one_place([*workloads, *pods], "Pantala") or access.home
    crds = [each for each in listed(kinds.CRD, None) if each["spec"]["group"] == PANTALA.partition("/")[0]]
    return Facts(
        version=version,
        nodes=listed(kinds.NODE, None),
        crds=tuple(crds),
        peers=listed(kinds.PEER, None),
        pods=pods,
        workloads=tuple(workloads),
        claims=listed(kinds.CLAIM, home, f"{COMPONENT}=supernode") if home else (),
        policies=listed(kinds.NETWORK_POLICY, home) if home else (),
        namespace=_try(missing, "namespace", lambda: cluster.get(kinds.NAMESPACE, "", home), None) if home else None,
        console=_try(missing, "console", lambda: _console(access, cluster), None),
        missing=missing,
    )


def _console(access: UserAccess, cluster: Cluster) -> Console:
    with access.console(cluster) as client:
        return client.console(limit=1)


def _try(missing: dict[str, str], what: str, ask: Callable[[], _Fact], otherwise: _Fact) -> _Fact:
    try:
        return ask()
    except (NotInstalledError, ObjectMissingError):
        return otherwise  # the checks report the missing object
    except CLIError as error:
        missing[what] = str(error)
        return otherwise
