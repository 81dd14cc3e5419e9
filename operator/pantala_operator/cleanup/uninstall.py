"""``python3 -m pantala_operator.cleanup.uninstall``: the end of an uninstall, run by a hook of the chart.

Waits until the cleanup DaemonSet has put containerd's files back on every node, takes it away, and says what is kept.
It ends with 0 also where a node could not be reached: nothing on such a node waits for Pantala, and it is named.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from pantala_operator.errors import ClusterError, ClusterNotFoundError

_INTERVAL = 1.0
_SHOWN = 20
"""Nodes that are named; the others are counted."""


class CleanupDaemonSet(NamedTuple):
    """The DaemonSet, as it says itself."""

    heeded: bool
    """Its controller knows it in its present form, so that the numbers count."""
    wanted: int
    """Nodes that it is for."""
    labels: dict[str, str]
    """Of its pods."""


class CleanupPod(NamedTuple):
    """Its pod on one node."""

    node: str
    ready: bool
    """The node is done."""
    message: str = ""
    """What the try before went wrong with."""


class CleanupCluster(Protocol):
    """What is asked of the API server. All raise :class:`ClusterError`."""

    async def cleanup(self, namespace: str, name: str) -> CleanupDaemonSet:
        """The DaemonSet."""

    async def cleanup_pods(self, namespace: str, labels: dict[str, str]) -> list[CleanupPod]:
        """Its pods, those of nodes that are down too."""

    async def delete_cleanup(self, namespace: str, name: str) -> None:
        """Take it and its pods away."""


@dataclass(frozen=True, slots=True)
class CleanupResult:
    """How far it came."""

    wanted: int = 0
    left: tuple[CleanupPod, ...] = ()
    """Nodes that are not done."""
    unseen: int = 0
    """Further ones, for which there is no pod yet."""
    trouble: str = ""
    """Why nothing is known of the nodes."""


async def wait(
    cluster: CleanupCluster,
    namespace: str,
    name: str,
    seconds: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> CleanupResult:
    """Wait for all nodes, ``seconds`` at most, and take the DaemonSet away whatever came of it."""
    end = clock() + seconds
    outcome = await _look(cluster, namespace, name)
    while (outcome.left or outcome.unseen or outcome.trouble) and clock() < end:
        await sleep(_INTERVAL)
        outcome = await _look(cluster, namespace, name)
    try:
        await cluster.delete_cleanup(namespace, name)
    except ClusterNotFoundError:  # Helm was first
        pass
    except ClusterError as error:
        trouble = f"The DaemonSet {name} could not be removed ({error}): kubectl delete -n {namespace} daemonset {name}"
        return replace(outcome, trouble=". ".join(filter(None, (outcome.trouble, trouble))))
    return outcome


async def _look(cluster: CleanupCluster, namespace: str, name: str) -> CleanupResult:
    try:
        cleanup = await cluster.cleanup(namespace, name)
        pods = await cluster.cleanup_pods(namespace, cleanup.labels)
    except ClusterError as error:
        return CleanupResult(trouble=f"It is not known which nodes are done: {error}")
    if not cleanup.heeded:
        return CleanupResult(trouble=f"The cluster has not begun with the DaemonSet {name}")
    done = {pod.node for pod in pods if pod.ready}
    left = {pod.node: pod for pod in pods if pod.node not in done}
    unseen = max(0, cleanup.wanted - len(done) - len(left))
    return CleanupResult(cleanup.wanted, tuple(left[node] for node in sorted(left)), unseen)


def report(outcome: CleanupResult, certs_d: str) -> str:
    """What came of it, in one line: Helm shows a hook's words as one field of a log line."""
    said = []
    if outcome.left or outcome.unseen:
        names = [pod.node + (f" ({' '.join(pod.message.split())})" if pod.message else "") for pod in outcome.left]
        more = len(names[_SHOWN:]) + outcome.unseen
        missing = ", ".join([*names[:_SHOWN], *([f"{more} more"] if more else [])])
        done = outcome.wanted - len(names) - outcome.unseen
        said.append(
            f"On {done} of {outcome.wanted} nodes containerd's files are as they were, not on: {missing}. There "
            "containerd asks a mirror that is gone and then the registry, so pulls go on; to end that, take Pantala's "
            f"part out of the hosts.toml files below {certs_d}."
        )
    elif not outcome.trouble:
        said.append(f"On all {outcome.wanted} nodes containerd's files are as they were.")
    if outcome.trouble:
        said.append(f"{outcome.trouble}.")
    return " ".join(said)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it; 2 for wrong flags."""
    parser = argparse.ArgumentParser(
        prog="pantala_operator.cleanup.uninstall", description="Waits for the cleanup of nodes."
    )
    parser.add_argument(
        "--daemonset", metavar="NAMESPACE/NAME", help="what cleans up; without it nothing is waited for"
    )
    parser.add_argument("--seconds", type=float, default=90.0, help="how long to wait for it at most (90)")
    parser.add_argument("--certs-d", default="/etc/containerd/certs.d", help="containerd's folder, for the message")
    parser.add_argument("--notice", default="", help="what to say in the end")
    given = parser.parse_args(arguments)
    said = []
    if given.daemonset:
        namespace, slash, name = given.daemonset.partition("/")
        if not (namespace and slash and name):
            parser.error(f"--daemonset: {given.daemonset!r} is not NAMESPACE/NAME")
        said.append(report(asyncio.run(_run(namespace, name, given.seconds)), given.certs_d))
    print(" ".join(filter(None, (given.notice, *said))))


async def _run(namespace: str, name: str, seconds: float) -> CleanupResult:
    from pantala_operator.cleanup.cluster import connect

    try:
        async with connect() as cluster:
            return await wait(cluster, namespace, name, seconds)
    except ClusterError as error:
        return CleanupResult(trouble=f"It is not known which nodes are done: {error}")


if __name__ == "__main__":
    main()
