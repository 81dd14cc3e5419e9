"""Images that not everybody may read."""

import base64
import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.cluster import Cluster, layout, runtime
from testbed.cluster.command import run
from testbed.cluster.registry_host import RegistryHost
from testbed.tokens import TokenRequest, TokenServer
from tests.e2e.environment import NAMESPACE, Environment
from tests.e2e.images import Images, Pushed, assert_on_nodes, assert_sent_once, pod, prefetch
from tests.e2e.kubectl import Kubectl, Resource, condition, eventually
from tests.e2e.registries import USER, Registries
from tests.e2e.release import Release
from tests.e2e.tasks import MIB

_PASSWORD = secrets.token_hex(16)
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

    eventually(lambda: _assert_refused(kubectl, "nobody", namespace, image), 60)
    assert all(image.name not in runtime.images(cluster, node) for node in nodes)

    kubectl.apply(prefetch("ann", namespace, [image.name], pullSecrets=["registry"]))

    kubectl.wait("imageprefetch/ann", "Ready", namespace)
    assert_on_nodes(cluster, nodes, image)
    assert_sent_once(registries.private, image)

    encoded = base64.b64encode(":".join(account).encode()).decode()
    for secret in (registries.password, encoded):
        assert [] == _logs_with(kubectl, secret)
        assert [] == _files_with(secret, nodes)


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[TokenServer]:
    """A token server on this machine, which knows one account."""
    with TokenServer(tmp_path / "tokens", {USER: _PASSWORD}, host=layout.HOST) as server:
        yield server


@pytest.fixture
def guarded(cluster: Cluster, tokens: TokenServer) -> Iterator[RegistryHost]:
    """A registry that takes its tokens alone."""
    with RegistryHost("tokens", tokens=tokens) as host:
        yield host


def test_images_of_a_registry_with_a_token_server_come_to_those_alone_who_have_the_secret(
    environment: Environment, release: Release, kubectl: Kubectl, guarded: RegistryHost, tokens: TokenServer,
    images: Images, namespace: str, cluster: Cluster,
) -> None:  # fmt: skip
    """By ImagePrefetch, and by pods' own pulls through the mirror; what is in its cache is not everybody's."""
    first, second, last = environment.nodes()
    account = (USER, _PASSWORD)
    ordered, pulled = (images.fresh(guarded, name, 4 * MIB, account=account) for name in ("ordered", "pulled"))
    guarded.registry.forget()
    tokens.requests.clear()
    kubectl.apply(_secret(namespace, guarded.host, *account), prefetch("nobody", namespace, [ordered.name]))

    eventually(lambda: _assert_refused(kubectl, "nobody", namespace, ordered), 60)
    assert {""} == {asked.user for asked in tokens.requests}

    kubectl.apply(prefetch("ann", namespace, [ordered.name], pullSecrets=["registry"]))
    kubectl.wait("imageprefetch/ann", "Ready", namespace)
    assert_on_nodes(cluster, environment.nodes(), ordered)
    assert_sent_once(guarded, ordered)
    repository = ordered.name.removeprefix(f"{guarded.host}/").partition(":")[0]
    requests = [request for request in tokens.requests if request.user]
    assert [TokenRequest(USER, (f"repository:{repository}:pull",))] == requests

    guarded.registry.forget()
    pods = [pod(f"ann-{node}", namespace, pulled.name, node) for node in (first, second)]
    for each in pods:
        each["spec"]["imagePullSecrets"] = [{"name": "registry"}]
    kubectl.apply(*pods)
    kubectl("wait", "pod", "--all", "--for=condition=Ready", "--timeout=60s", f"--namespace={namespace}")
    assert_sent_once(guarded, pulled)

    guarded.registry.forget()
    # By its digest, which the mirror is asked for; on a node whose mirror has all of it, and on another.
    by_digest = f"{pulled.name.rpartition(':')[0]}@{pulled.digest}"
    strangers = {f"nobody-{node}": pod(f"nobody-{node}", namespace, by_digest, node) for node in (first, last)}
    for each in strangers.values():
        each["spec"]["containers"][0]["imagePullPolicy"] = "Always"
    kubectl.apply(*strangers.values())

    def kept_out() -> None:
        for name in strangers:
            containers = kubectl.get("pod", name, namespace)["status"].get("containerStatuses", [])
            reasons = [container["state"].get("waiting", {}).get("reason") for container in containers]
            assert reasons in (["ErrImagePull"], ["ImagePullBackOff"]), containers

    eventually(kept_out, 30)
    asked = [access for access in guarded.registry.requests() if access.path.endswith(f"/manifests/{pulled.digest}")]
    assert {401} == {access.status for access in asked}
    assert {} == guarded.registry.blob_bytes()
    assert pulled.digest not in runtime.images(cluster, last).values()


def _assert_refused(kubectl: Kubectl, name: str, namespace: str, image: Pushed) -> None:
    stands = kubectl.get("imageprefetches.pantala.dev", name, namespace)
    assert "Unauthorized" == condition(stands, "Resolved").get("reason"), stands["status"]
    assert image.name in condition(stands, "Resolved")["message"]
    assert "False" == condition(stands, "Ready")["status"]


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
