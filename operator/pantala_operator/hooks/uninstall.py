"""``python3 -m pantala_operator.hooks.uninstall``: the end of an uninstall, run by a hook of the chart.

It waits until the cleanup DaemonSet has restored containerd's files on every node. Then it deletes the DaemonSet and
the operators' Lease, and prints what stays. If a node cannot be reached, the message names it, and the exit code is
still 0: pulls work on the node.
"""

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

from pantala_operator.errors import ClusterError, ClusterNotFoundError

_INTERVAL = 1.0
_TIMEOUT = 10.0
"""Seconds for one request: shorter than the operator's, because Helm waits."""
_NAMED = 20
"""The message names at most this many nodes, and counts the other nodes."""


Request = Callable[..., Awaitable[Any]]
"""See :meth:`pantala_operator.adapters.kubernetes.KubernetesCluster.request`."""


class CleanupPod(NamedTuple):
    """The DaemonSet's pod on one node."""

    node: str
    ready: bool
    """True if containerd's files on the node are restored."""
    message: str = ""
    """Why the last attempt to restore them failed."""


@dataclass(frozen=True, slots=True)
class CleanupResult:
    """How far the cleanup got."""

    desired: int = 0
    remaining: tuple[CleanupPod, ...] = ()
    """The pods of nodes that are not restored."""
    podless: int = 0
    """The number of further nodes, which have no pod yet."""
    error: str = ""
    """Why the state of the nodes is unknown, or why the DaemonSet was not deleted."""

    @property
    def complete(self) -> bool:
        return not (self.remaining or self.podless or self.error)

    def with_error(self, text: str) -> Self:
        """The result with a further error, if ``text`` is not empty."""
        return replace(self, error=". ".join(filter(None, (self.error, text))))


async def wait(request: Request, namespace: str, name: str, seconds: float) -> CleanupResult:
    """Wait until all nodes are restored, for at most ``seconds``. Then delete the DaemonSet in any case."""
    clock = asyncio.get_running_loop()
    end = clock.time() + seconds
    result = await _look(request, namespace, name)
    while not result.complete and clock.time() < end:
        await asyncio.sleep(_INTERVAL)
        result = await _look(request, namespace, name)
    # In the background: pods of nodes that are down never end.
    deleting = request("delete", _path(namespace, name), propagation_policy="Background")
    return result.with_error(await _deleted(deleting, "DaemonSet", namespace, name))


async def end_term(request: Request, namespace: str, name: str) -> str:
    """Delete the operators' Lease. Helm leaves it, because an operator that ends may write it once more.

    Returns what went wrong, or an empty text.
    """
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}"
    return await _deleted(request("delete", path), "Lease", namespace, name)


async def _deleted(deleting: Awaitable[Any], kind: str, namespace: str, name: str) -> str:
    try:
        await deleting
    except ClusterNotFoundError:  # it is deleted already
        return ""
    except ClusterError as error:
        return f"The {kind} {name} was not deleted: {error}. Run kubectl delete -n {namespace} {kind.lower()} {name}"
    return ""


async def _look(request: Request, namespace: str, name: str) -> CleanupResult:
    try:
        daemonset = await request("get", _path(namespace, name))
        selector = ",".join(f"{key}={value}" for key, value in daemonset["spec"]["selector"]["matchLabels"].items())
        pods = await request("get", f"/api/v1/namespaces/{namespace}/pods", label_selector=selector)
    except ClusterError as error:
        return CleanupResult(error=f"The state of the nodes is not known: {error}")
    status = daemonset.get("status", {})
    if status.get("observedGeneration", 0) < daemonset["metadata"]["generation"]:
        return CleanupResult(error=f"The cluster has not started the DaemonSet {name}")
    found, desired = [_pod(each) for each in pods["items"]], status.get("desiredNumberScheduled", 0)
    done = {pod.node for pod in found if pod.ready}
    remaining = {pod.node: pod for pod in found if pod.node not in done}
    podless = max(0, desired - len(done) - len(remaining))
    return CleanupResult(desired, tuple(remaining[node] for node in sorted(remaining)), podless)


def report(result: CleanupResult, certs_d: str) -> str:
    """The result in one line, because Helm logs a hook's output as one field."""
    sentences = []
    if result.remaining or result.podless:
        names = [pod.node + (f" ({' '.join(pod.message.split())})" if pod.message else "") for pod in result.remaining]
        more = len(names[_NAMED:]) + result.podless
        missing = ", ".join([*names[:_NAMED], *([f"{more} more"] if more else [])])
        done = result.desired - len(names) - result.podless
        sentences.append(
            f"containerd's files are restored on {done} of {result.desired} nodes. They are not restored on: "
            f"{missing}. Image pulls work on these nodes too: containerd tries the removed mirror, then the registry. "
            f"To skip the mirror, remove Pantala's part from the hosts.toml files below {certs_d}."
        )
    elif not result.error:
        sentences.append(f"containerd's files are restored on all {result.desired} nodes.")
    if result.error:
        sentences.append(f"{result.error}.")
    return " ".join(sentences)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command. The exit code is 2 for invalid flags, else 0."""
    parser = argparse.ArgumentParser(
        prog="pantala_operator.hooks.uninstall", description="Waits for the cleanup of nodes."
    )
    parser.add_argument("--daemonset", metavar="NAMESPACE/NAME", help="the cleanup DaemonSet (default: none)")
    parser.add_argument("--lease", metavar="NAMESPACE/NAME", help="the operators' Lease (default: none)")
    parser.add_argument("--seconds", type=float, default=90.0, help="how long to wait for it at most (90)")
    parser.add_argument("--certs-d", default="/etc/containerd/certs.d", help="containerd's folder, for the message")
    parser.add_argument("--notice", default="", help="a text to print first")
    given = parser.parse_args(arguments)
    lines = [given.notice]
    for flag, value in (("--daemonset", given.daemonset), ("--lease", given.lease)):
        if value and not all(value.partition("/")):
            parser.error(f"{flag}: {value!r} is not NAMESPACE/NAME")
    if given.daemonset:
        lines.append(report(asyncio.run(_run(given.daemonset, given.lease, given.seconds)), given.certs_d))
    print(" ".join(filter(None, lines)))


async def _run(daemonset: str, lease: str | None, seconds: float) -> CleanupResult:
    from pantala_operator.adapters import kubernetes  # a slow import, which the notice alone does not need

    try:
        async with await kubernetes.connect("", _TIMEOUT) as cluster:
            namespace, _, name = daemonset.partition("/")
            result = await wait(cluster.request, namespace, name, seconds)
            namespace, _, name = (lease or "").partition("/")
            return result.with_error(await end_term(cluster.request, namespace, name) if name else "")
    except ClusterError as error:
        return CleanupResult(error=f"The state of the nodes is not known: {error}")


def _path(namespace: str, name: str) -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/daemonsets/{name}"


def _pod(body: Any) -> CleanupPod:
    status = body.get("status", {})
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions", ()))
    messages = [
        terminated.get("message", "")
        for container in status.get("initContainerStatuses", ())
        for state in (container.get("state", {}), container.get("lastState", {}))
        if (terminated := state.get("terminated")) and terminated.get("exitCode")
    ]
    return CleanupPod(_node(body["spec"]), ready, next(filter(None, messages), ""))


def _node(spec: Any) -> str:
    """The node of a pod with this spec. Until the pod is bound, only its node affinity names the node."""
    if name := spec.get("nodeName"):
        return str(name)
    required = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return str(required["nodeSelectorTerms"][0]["matchFields"][0]["values"][0])


if __name__ == "__main__":
    main()
