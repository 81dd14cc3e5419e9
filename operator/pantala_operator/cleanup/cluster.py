"""The API server as the end of an uninstall uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pantala_operator.adapters import kubernetes
from pantala_operator.adapters.kubernetes import KubernetesCluster
from pantala_operator.cleanup.uninstall import CleanupDaemonSet, CleanupPod

_TIMEOUT = 10.0
"""Seconds for one request: shorter than the operator's, because Helm waits."""


@asynccontextmanager
async def connect() -> AsyncIterator[KubernetesCleanup]:
    """Connect with the pod's service account, or what ``KUBECONFIG`` names. Raises ``ClusterError``."""
    cluster = await kubernetes.connect("", _TIMEOUT)
    try:
        yield KubernetesCleanup(cluster)
    finally:
        await cluster.close()


class KubernetesCleanup:
    """A :class:`pantala_operator.cleanup.uninstall.CleanupCluster`."""

    def __init__(self, cluster: KubernetesCluster) -> None:
        self._request = cluster.request

    async def daemonset(self, namespace: str, name: str) -> CleanupDaemonSet:
        body = await self._request("get", _path(namespace, name))
        status = body.get("status", {})
        return CleanupDaemonSet(
            observed=status.get("observedGeneration", 0) >= body["metadata"]["generation"],
            desired=status.get("desiredNumberScheduled", 0),
            labels=body["spec"]["selector"]["matchLabels"],
        )

    async def pods(self, namespace: str, labels: dict[str, str]) -> list[CleanupPod]:
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        body = await self._request("get", f"/api/v1/namespaces/{namespace}/pods", label_selector=selector)
        return [_pod(each) for each in body["items"]]

    async def delete_daemonset(self, namespace: str, name: str) -> None:
        # In the background: pods of nodes that are down never end.
        await self._request("delete", _path(namespace, name), propagation_policy="Background")


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
    """The node of a pod. A DaemonSet's pod names its node by an affinity until it is bound."""
    if name := spec.get("nodeName"):
        return str(name)
    required = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return str(required["nodeSelectorTerms"][0]["matchFields"][0]["values"][0])
