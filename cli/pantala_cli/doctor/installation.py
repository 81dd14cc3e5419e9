"""Checks of the installation: CRDs, pods, versions, ports, policies, Pod Security and volumes. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from pantala_cli.access.kinds import INSTANCE, PART_OF, VERSION, Resource, condition, labels, status_of
from pantala_cli.doctor.diagnosis import Diagnosis, failed, ok, warning
from pantala_cli.doctor.facts import Facts
from pantala_cli.show.words import counted, several, size
from pantala_protocol import __version__
from pantala_protocol.rules.selection import LabelSelector

_CRDS = ("tasks", "imageprefetches", "peers", "sourcepolicies")
_ENFORCE = "pod-security.kubernetes.io/enforce"
_SCARCE, _FULL = 0.1, 0.02
_INSTALL = "Install Pantala's chart. README.md has the command."


def readable(facts: Facts) -> Iterator[Diagnosis]:
    """A warning for each kind of object that the user may not read."""
    for what, why in facts.missing.items():
        yield warning(what, f"The doctor cannot read these objects, so their checks are left out. {why}", "")


def crds(facts: Facts) -> Iterator[Diagnosis]:
    """Whether the API server has all CRDs, and serves them."""
    if "customresourcedefinitions" in facts.missing:
        return
    found = {each["spec"]["names"]["plural"]: each for each in facts.crds}
    absent = [name for name in _CRDS if name not in found]
    if absent:
        yield failed("CRDs", f"The cluster does not have the CRDs of {several(absent)}", _INSTALL)
    broken = [name for name, each in found.items() if condition(each, "Established").get("status") != "True"]
    if broken:
        yield failed("CRDs", f"{several(broken)} are not established", "Look at kubectl describe crd NAME.pantala.dev.")
    if not absent and not broken:
        yield ok("CRDs", f"{counted(len(found), 'kind')} established")


def pods(facts: Facts) -> Iterator[Diagnosis]:
    """Whether all pods run, and why a pod does not run."""
    if not facts.workloads and not facts.pods:
        if "deployments" not in facts.missing and "pods" not in facts.missing:
            yield failed("installation", "No pod of Pantala runs in this cluster", _INSTALL)
        return
    releases = {labels(each).get(INSTANCE, "") for each in facts.workloads}
    if len(releases) > 1:
        what = f"The cluster has several releases, {several(releases)}, and the operator of each acts on all Tasks"
        yield failed("installation", what, f"Uninstall all but one: helm uninstall --namespace {facts.home} RELEASE.")
    for each in facts.workloads:
        name = f"{each['kind']} {each['metadata']['name']}"
        ready, wanted = _counts(each)
        if ready >= wanted and wanted:
            yield ok("pods", f"{name}: {ready} of {wanted} ready")
        else:
            action = f"Look at kubectl -n {facts.home} describe {each['kind'].lower()} {each['metadata']['name']}."
            yield failed("pods", f"{name}: {ready} of {wanted} ready", action)
    for pod in facts.pods:
        if why := _trouble(pod):
            name = pod["metadata"]["name"]
            yield failed("pods", f"{name}: {why}", f"Look at kubectl -n {facts.home} describe pod {name}.")


def versions(facts: Facts) -> Iterator[Diagnosis]:
    """Whether operator, peers, CRDs and this command are of one version."""
    found: dict[str, set[str]] = {"kubectl pantala": {__version__}}
    for what, objects in (
        ("operator", facts.of("operator")),
        ("supernodes", facts.of("supernode")),
        ("CRDs", facts.crds),
    ):
        found[what] = {labels(each)[VERSION] for each in objects if VERSION in labels(each)}
    found["peers"] = {str(status_of(peer).get("version")) for peer in facts.peers} - {"None", ""}
    found = {what: known for what, known in found.items() if known}
    listed = "; ".join(f"{what} {several(known)}" for what, known in found.items())
    if len(set().union(*found.values())) == 1:
        yield ok("versions", listed)
    else:
        yield warning(
            "versions", listed, "Finish the upgrade, or install the matching kubectl pantala. See docs/upgrades.md."
        )


def pod_security(facts: Facts) -> Iterator[Diagnosis]:
    """Whether Pod Security admits the peers, which use the node's folders."""
    if facts.namespace is None:
        return
    level = labels(facts.namespace).get(_ENFORCE, "")
    if level in ("baseline", "restricted"):
        yield failed(
            "Pod Security",
            f"Namespace {facts.home} enforces {level}, so the peers' pods are not created",
            f"Run kubectl label namespace {facts.home} {_ENFORCE}=privileged --overwrite.",
        )
    else:
        yield ok("Pod Security", f"Namespace {facts.home} enforces {level or 'no level of its own'}")


def ports(facts: Facts) -> Iterator[Diagnosis]:
    """Whether the mirror's port is free on each node."""
    blocked = [
        found["message"]
        for pod in facts.of("peer")
        for found in [condition(pod, "PodScheduled")]
        if found.get("status") == "False" and "ports" in found.get("message", "")
    ]
    used = {
        port["hostPort"]: container["name"]
        for pod in facts.of("peer")
        for container in pod["spec"].get("containers", ())
        for port in container.get("ports", ())
        if "hostPort" in port
    }
    if blocked:
        yield failed("ports", blocked[0], "Stop the other program or pod that uses the port on this node.")
    elif used:
        yield ok("ports", f"Each peer has port {several(map(str, used))} of its node")


def policies(facts: Facts) -> Iterator[Diagnosis]:
    """Whether NetworkPolicies that are not Pantala's stop the conversations of Pantala's processes."""
    ours = [each for each in facts.policies if labels(each).get(PART_OF) == "pantala"]
    for each in facts.policies:
        selector = msgspec.convert(each["spec"].get("podSelector") or {}, LabelSelector)
        selected = [pod for pod in facts.pods if each not in ours and selector.matches(labels(pod))]
        if not selected:
            continue
        kinds = each["spec"].get("policyTypes") or ["Ingress"]
        name = each["metadata"]["name"]
        if "Egress" in kinds:
            yield warning(
                "policies",
                f"NetworkPolicy {name} limits what {counted(len(selected), 'pod')} of Pantala may connect to",
                "Allow other pods of Pantala, origins, registries, DNS and the API server. See docs/networks.md.",
            )
        elif not ours:
            yield warning(
                "policies",
                f"NetworkPolicy {name} limits which pods connect to {counted(len(selected), 'pod')} of Pantala",
                "Set the chart's value networkPolicy.enabled, which allows exactly what Pantala needs.",
            )
    if "networkpolicies" not in facts.missing and facts.home:
        yield ok("policies", f"The chart has {counted(len(ours), 'policy', 'policies')}")


def volumes(facts: Facts) -> Iterator[Diagnosis]:
    """Whether the supernodes' volumes are bound and have room."""
    for claim in facts.claims:
        phase = status_of(claim).get("phase", "?")
        if phase != "Bound":
            name = claim["metadata"]["name"]
            yield failed("volumes", f"Claim {name} is {phase}", f"Look at kubectl -n {facts.home} describe pvc {name}.")
    for supernode in facts.console.supernodes if facts.console is not None else ():
        if not supernode.answers:
            yield failed(
                "supernodes", f"{supernode.name} does not answer. {supernode.message}".strip(),
                "Read its log with kubectl pantala logs supernode.",
            )  # fmt: skip
        elif supernode.volume_bytes:
            free = supernode.volume_free / supernode.volume_bytes
            text = f"{supernode.name}: {size(supernode.volume_free)} of {size(supernode.volume_bytes)} free"
            action = "Delete Tasks, or enlarge the supernode's volume. See docs/upgrades.md."
            if free < _FULL:
                yield failed("volumes", text, action)
            elif free < _SCARCE:
                yield warning("volumes", text, action)
            else:
                yield ok("volumes", text)


def _counts(workload: Resource) -> tuple[int, int]:
    status = status_of(workload)
    if workload["kind"] == "DaemonSet":
        return status.get("numberReady", 0), status.get("desiredNumberScheduled", 0)
    return status.get("readyReplicas", 0), workload["spec"].get("replicas", 1)


def _trouble(pod: Resource) -> str:
    """Why a pod does not run. Empty: it runs, or is still starting."""
    status = status_of(pod)
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return scheduled.get("message", "not scheduled")
    for each in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waiting: Mapping[str, Any] = (each.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "", "PodInitializing", "ContainerCreating"):
            detail = f": {waiting['message']}" if waiting.get("message") else ""
            return f"container {each['name']}: {waiting['reason']}{detail}"
    return ""
