"""Images that not everybody may read."""

from __future__ import annotations

import base64
import json

from testbed.cluster import Cluster, layout, runtime
from testbed.cluster.command import run
from tests.e2e.environment import NAMESPACE, Environment
from tests.e2e.images import Images, assert_on_nodes, assert_sent_once, prefetch
from tests.e2e.kubectl import Kubectl, Resource, condition, eventually
from tests.e2e.registries import USER, Registries
from tests.e2e.release import Release
from tests.e2e.tasks import MIB

_WHERE = ("etc", "run", "var/lib/pantala", "var/lib/kubelet", "var/log")


def test_a_private_image_comes_with_pull_secrets_alone_and_no_node_sees_the_password(
    environment: Environment, release: Release, kubectl: Kubectl, registries: Registries, images: Images,
    namespace: str, cluster: Cluster,
) -> None:  # fmt: skip
    """Without them it is Unauthorized, and says so; the password is in no log and in no file on any node."""
    nodes = environment.nodes()
    account = (USER, registries.password)
    image = images.fresh(registries.private, "private", 8 * MIB, account=account)
    registries.private.registry.forget()
    kubectl.apply(_secret(namespace, registries.private.host, *account))
    kubectl.apply(prefetch("nobody", namespace, [image.name]))

    def refused() -> None:
        stands = kubectl.get("imageprefetches.pantala.dev", "nobody", namespace)
        assert "Unauthorized" == condition(stands, "Resolved").get("reason"), stands["status"]
        assert image.name in condition(stands, "Resolved")["message"]
        assert "False" == condition(stands, "Ready")["status"]

    eventually(refused, 60)
    assert all(image.name not in runtime.images(cluster, node) for node in nodes)

    kubectl.apply(prefetch("ann", namespace, [image.name], pullSecrets=["registry"]))

    kubectl.wait("imageprefetch/ann", "Ready", namespace)
    assert_on_nodes(cluster, nodes, image)
    assert_sent_once(registries.private, image)

    encoded = base64.b64encode(":".join(account).encode()).decode()
    for secret in (registries.password, encoded):
        assert [] == _logs_with(kubectl, secret)
        assert [] == _files_with(secret, nodes)


def _secret(namespace: str, host: str, user: str, password: str) -> Resource:
    config = {"auths": {host: {"username": user, "password": password}}}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "registry", "namespace": namespace},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": json.dumps(config)},
    }


def _logs_with(kubectl: Kubectl, secret: str) -> list[str]:
    pods = [pod["metadata"]["name"] for pod in kubectl.list("pods", NAMESPACE)]
    logs = {
        pod: kubectl("logs", pod, f"--namespace={NAMESPACE}", "--all-containers", "--tail=-1", check=False)
        for pod in pods
    }
    assert any(logs.values()), "there are no logs: the case proves nothing"
    return [pod for pod, log in logs.items() if secret in log]


def _files_with(secret: str, nodes: list[str]) -> list[str]:
    """On the nodes' disks, except for what images are made of, and on the volumes."""
    disks = [str(layout.NodePlace.named(node).disk / folder) for node in nodes for folder in _WHERE]
    command = ("grep", "--recursive", "--files-with-matches", "--no-messages", "--text", "--devices=skip")
    return run(*command, "--fixed-strings", secret, *disks, str(layout.DATA / "volumes"), check=False).splitlines()
