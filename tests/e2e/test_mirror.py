"""The mirror: pods' images come through it, and never wait for it when it is not there."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from testbed.cluster.registry_host import RegistryHost
from tests.e2e.environment import NAMESPACE, Environment
from tests.e2e.images import Images, Pushed, assert_sent_once, pod
from tests.e2e.kubectl import Kubectl
from tests.e2e.release import Release
from tests.e2e.tasks import MIB

_SIZE = 40 * MIB


def test_three_pods_of_one_new_image_at_once_cost_the_registry_one_copy(
    environment: Environment, release: Release, kubectl: Kubectl, site: RegistryHost, images: Images, namespace: str
) -> None:
    """Nobody prefetched it: the kubelets' own pulls meet in the mirror."""
    image = images.fresh(site, "rush", _SIZE)
    site.shape("100mbit")  # long enough for all three to be at it
    site.registry.forget()
    kubectl.apply(*(pod(f"rush-{node}", namespace, image.name, node) for node in environment.nodes()))

    _wait_running(kubectl, namespace, image, environment.nodes(), "rush")

    assert_sent_once(site, image)


def test_a_pod_of_a_new_image_starts_without_any_peer(
    environment: Environment, release: Release, kubectl: Kubectl, site: RegistryHost, images: Images, namespace: str
) -> None:
    """The DaemonSet is deleted, containerd's settings still name the mirror: it goes on to the registry."""
    node = environment.nodes()[0]
    image = images.fresh(site, "no-peer", MIB)
    with _without_peers(kubectl, release):
        kubectl.apply(pod(f"no-peer-{node}", namespace, image.name, node))
        _wait_running(kubectl, namespace, image, [node], "no-peer")
    assert_sent_once(site, image)


def test_a_pod_of_a_new_image_starts_without_any_supernode(
    environment: Environment, release: Release, kubectl: Kubectl, site: RegistryHost, images: Images, namespace: str
) -> None:
    """The mirror answers that it has nothing, and containerd goes on to the registry."""
    node = environment.nodes()[0]
    image = images.fresh(site, "no-supernode", MIB)
    try:
        _scale(kubectl, 0)
        kubectl("wait", "pod", "--for=delete", "--selector=app.kubernetes.io/component=supernode",
                f"--namespace={NAMESPACE}", "--timeout=60s")  # fmt: skip
        kubectl.apply(pod(f"no-supernode-{node}", namespace, image.name, node))
        _wait_running(kubectl, namespace, image, [node], "no-supernode")
    finally:
        _scale(kubectl, 1)
        release.wait_ready()
    assert_sent_once(site, image)


@contextmanager
def _without_peers(kubectl: Kubectl, release: Release) -> Iterator[None]:
    peers = kubectl.get("daemonset", "pantala-peer", NAMESPACE)
    for made_by_the_server in ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"):
        peers["metadata"].pop(made_by_the_server, None)
    del peers["status"]
    kubectl.delete("daemonset/pantala-peer", NAMESPACE)
    try:
        kubectl("wait", "pod", "--for=delete", "--selector=app.kubernetes.io/component=peer",
                f"--namespace={NAMESPACE}", "--timeout=60s")  # fmt: skip
        yield
    finally:
        kubectl("create", "--filename=-", text=json.dumps(peers))
        release.wait_ready()


def _scale(kubectl: Kubectl, replicas: int) -> None:
    kubectl("scale", "statefulset/pantala-supernode", f"--namespace={NAMESPACE}", f"--replicas={replicas}")


def _wait_running(kubectl: Kubectl, namespace: str, image: Pushed, nodes: list[str], name: str) -> None:
    for node in nodes:
        kubectl.wait(f"pod/{name}-{node}", "Ready", namespace, timeout=60)
        [container] = kubectl.get("pod", f"{name}-{node}", namespace)["status"]["containerStatuses"]
        assert container["imageID"].endswith(image.digest)
