"""The API server, as the end of an uninstall needs it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from pantala_operator.adapters import kubernetes
from pantala_operator.cleanup.uninstall import CleanupDaemonSet, CleanupPod
from pantala_operator.errors import ClusterError, ClusterForbiddenError, ClusterNotFoundError, ClusterUnavailableError

_TIMEOUT = aiohttp.ClientTimeout(total=10, connect=5)


@asynccontextmanager
async def connect() -> AsyncIterator[KubernetesCleanup]:
    """With the pod's service account, or what ``KUBECONFIG`` names. Raises :class:`ClusterError`."""
    finder = await kubernetes.connect("")
    try:
        login = await finder.login()
    finally:
        await finder.close()
    trust = ssl.create_default_context(cafile=login.ca_path)
    if login.certificate_path:
        trust.load_cert_chain(login.certificate_path, login.private_key_path)
    headers = {"Authorization": f"Bearer {login.token}"} if login.token else {}
    connector = aiohttp.TCPConnector(ssl=trust)
    async with aiohttp.ClientSession(login.server, headers=headers, connector=connector, timeout=_TIMEOUT) as session:
        yield KubernetesCleanup(session)


class KubernetesCleanup:
    """A :class:`pantala_operator.cleanup.uninstall.CleanupCluster`."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def cleanup(self, namespace: str, name: str) -> CleanupDaemonSet:
        """See :class:`pantala_operator.cleanup.uninstall.CleanupCluster`."""
        body = await self._request("GET", _daemonset(namespace, name))
        status = body.get("status", {})
        return CleanupDaemonSet(
            heeded=status.get("observedGeneration", 0) >= body["metadata"]["generation"],
            wanted=status.get("desiredNumberScheduled", 0),
            labels=body["spec"]["selector"]["matchLabels"],
        )

    async def cleanup_pods(self, namespace: str, labels: dict[str, str]) -> list[CleanupPod]:
        """See :class:`pantala_operator.cleanup.uninstall.CleanupCluster`."""
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        body = await self._request("GET", f"/api/v1/namespaces/{namespace}/pods", {"labelSelector": selector})
        return [_pod(each) for each in body["items"]]

    async def delete_cleanup(self, namespace: str, name: str) -> None:
        """See :class:`pantala_operator.cleanup.uninstall.CleanupCluster`."""
        await self._request("DELETE", _daemonset(namespace, name), {"propagationPolicy": "Background"})

    async def _request(self, method: str, path: str, parameters: dict[str, str] | None = None) -> Any:
        try:
            async with self._session.request(method, path, params=parameters) as answer:
                if answer.ok:
                    return await answer.json()
                message = f"the API server answered {answer.status} to {method} {path}"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ClusterUnavailableError(f"the API server does not answer ({type(error).__name__})") from error
        kinds: dict[int, type[ClusterError]] = {403: ClusterForbiddenError, 404: ClusterNotFoundError}
        raise kinds.get(answer.status, ClusterUnavailableError)(message)


def _daemonset(namespace: str, name: str) -> str:
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
    """Of a DaemonSet's pod, which is made for one node before it is bound to it."""
    if name := spec.get("nodeName"):
        return str(name)
    required = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return str(required["nodeSelectorTerms"][0]["matchFields"][0]["values"][0])
