"""Private images."""

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
from tests.e2e.case import MIB, Case, passes
from tests.e2e.environment import NAMESPACE
from tests.e2e.images import USER, Images, Pushed, Registries, assert_on_nodes, assert_sent_once
from tests.e2e.kubectl import Kubectl, Resource

_PASSWORD = secrets.token_hex(16)
_WHERE = ("etc", "run", "var/lib/pantala", "var/lib/kubelet", "var/log")


def test_a_private_image_needs_pull_secrets_and_no_node_sees_the_password(
    case: Case, cluster: Cluster, registries: Registries, images: Images
) -> None:
    """Without pull secrets it is Unauthorized. The password is in no log and in no file of any node."""
    account = (USER, registries.password)
    image = images.fresh(registries.private, "private", 8 * MIB, account=account)
    registries.private.registry.forget()
    case.apply(*_secret(case, registries.private.host, *account), case.prefetch("without-secret", image))

    passes(lambda: _assert_refused(case, image))
    assert all(image.name not in runtime.images(cluster, node) for node in case.nodes)

    case.apply(case.prefetch("ann", image, pullSecrets=["registry"]))

    case.ready("imageprefetch/ann")
    assert_on_nodes(cluster, case.nodes, image)
    assert_sent_once(registries.private, image)

    encoded = base64.b64encode(":".join(account).encode()).decode()
    for secret in (registries.password, encoded):
        assert [] == _logs_with(case.kubectl, secret)
        assert [] == _files_with(secret, case.nodes)


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[TokenServer]:
    """A token server on this machine with one account."""
    with TokenServer(tmp_path / "tokens", {USER: _PASSWORD}, host=layout.HOST) as server:
        yield server


@pytest.fixture
def guarded(cluster: Cluster, tokens: TokenServer) -> Iterator[RegistryHost]:
    """A registry that accepts only its token server's tokens."""
    with RegistryHost("tokens", tokens=tokens) as host:
        yield host


def test_images_behind_a_token_server_come_only_with_the_secret(
    case: Case, cluster: Cluster, guarded: RegistryHost, tokens: TokenServer, images: Images
) -> None:
    """This holds for an ImagePrefetch, and for pods' pulls through a mirror that has the image in its cache."""
    first, second, last = case.nodes
    account = (USER, _PASSWORD)
    ordered, pulled = (images.fresh(guarded, name, 4 * MIB, account=account) for name in ("ordered", "pulled"))
    guarded.registry.forget()
    tokens.requests.clear()
    case.apply(*_secret(case, guarded.host, *account), case.prefetch("without-secret", ordered))

    passes(lambda: _assert_refused(case, ordered))
    assert {""} == {request.user for request in tokens.requests}

    case.apply(case.prefetch("ann", ordered, pullSecrets=["registry"]))
    case.ready("imageprefetch/ann")
    assert_on_nodes(cluster, case.nodes, ordered)
    assert_sent_once(guarded, ordered)
    repository = ordered.name.removeprefix(f"{guarded.host}/").partition(":")[0]
    requests = [request for request in tokens.requests if request.user]
    assert [TokenRequest(USER, (f"repository:{repository}:pull",))] == requests

    guarded.registry.forget()
    pull_secrets = [{"name": "registry"}]
    for node in (first, second):
        case.apply(case.pod(f"ann-{node}", pulled.name, node, imagePullSecrets=pull_secrets))
    case.pods_ready()
    assert_sent_once(guarded, pulled)

    guarded.registry.forget()
    # The mirror serves requests by digest. The first node's mirror has the whole image, the last node's has nothing.
    by_digest = f"{pulled.name.rpartition(':')[0]}@{pulled.digest}"
    for node in (first, last):
        case.apply(case.pod(f"without-secret-{node}", by_digest, node, pull="Always"))

    def refused() -> None:
        for node in (first, last):
            containers = case.status(f"pod/without-secret-{node}").get("containerStatuses", [])
            reasons = [container["state"].get("waiting", {}).get("reason") for container in containers]
            assert reasons in (["ErrImagePull"], ["ImagePullBackOff"]), containers

    passes(refused, within=30)
    manifests = [log for log in guarded.registry.requests() if log.path.endswith(f"/manifests/{pulled.digest}")]
    assert {401} == {access.status for access in manifests}
    assert {} == guarded.registry.blob_bytes()
    assert pulled.digest not in runtime.images(cluster, last).values()


def _assert_refused(case: Case, image: Pushed) -> None:
    resolved = case.condition("imageprefetch/without-secret", "Resolved")
    assert "Unauthorized" == resolved.get("reason"), resolved
    assert image.name in resolved["message"]
    assert "False" == case.condition("imageprefetch/without-secret", "Ready")["status"]


def _secret(case: Case, host: str, user: str, password: str) -> tuple[Resource, Resource]:
    """A pull secret whose owner allows its use, and the binding that lets the operator read it."""
    config = json.dumps({"auths": {host: {"username": user, "password": password}}})
    data = {".dockerconfigjson": config}
    made = case.resource("Secret", "registry", type="kubernetes.io/dockerconfigjson", stringData=data)
    made["metadata"]["labels"] = {"pantala.dev/allow": "images"}
    binding = case.resource(
        "RoleBinding",
        "pantala-secrets",
        "rbac.authorization.k8s.io/v1",
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "pantala-secret-reader"},
        subjects=[{"kind": "ServiceAccount", "name": "pantala-operator", "namespace": NAMESPACE}],
    )
    return made, binding


def _logs_with(kubectl: Kubectl, secret: str) -> list[str]:
    pods = [pod["metadata"]["name"] for pod in kubectl.list("pods", NAMESPACE)]
    command = (f"--namespace={NAMESPACE}", "--all-containers", "--tail=-1")
    logs = {pod: kubectl("logs", pod, *command, check=False) for pod in pods}
    assert any(logs.values()), "there are no logs, so the case proves nothing"
    return [pod for pod, log in logs.items() if secret in log]


def _files_with(secret: str, nodes: list[str]) -> list[str]:
    """The files with the secret on the nodes' disks and the volumes. The images' own content is not searched."""
    disks = [str(layout.NodePlace.named(node).disk / folder) for node in nodes for folder in _WHERE]
    command = ("grep", "--recursive", "--files-with-matches", "--no-messages", "--text", "--devices=skip")
    return run(*command, "--fixed-strings", secret, *disks, str(layout.DATA / "volumes"), check=False).splitlines()
