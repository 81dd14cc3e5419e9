"""ImagePrefetch: what it is for. Images are on the nodes before a pod asks for them."""

import time

from testbed.cluster import Cluster, runtime
from testbed.cluster.registry_host import RegistryHost
from testbed.debian import PACKAGES
from tests.e2e.environment import Environment
from tests.e2e.images import Images, assert_on_nodes, assert_sent_once, pod, prefetch, status
from tests.e2e.kubectl import Kubectl, eventually
from tests.e2e.release import Release
from tests.e2e.tasks import MIB

_LARGE = 200 * 1000 * 1000
_TAINT = "e2e.pantala.dev/images-missing"


def test_large_images_are_on_every_node_and_their_pods_start_without_the_registry(
    environment: Environment, release: Release, kubectl: Kubectl, site: RegistryHost, images: Images,
    namespace: str, cluster: Cluster,
) -> None:  # fmt: skip
    """Two images of Debian packages, by their tags in each runtime; the registry sent each blob once."""
    nodes = environment.nodes()
    pushed = [images.large(site, name) for name in PACKAGES]
    assert all(sum(image.image.blobs.values()) > _LARGE for image in pushed)
    site.registry.forget()
    kubectl.apply(prefetch("large", namespace, [image.name for image in pushed]))

    kubectl.wait("imageprefetch/large", "Ready", namespace, timeout=240)

    assert_on_nodes(cluster, nodes, *pushed)
    assert_sent_once(site, *pushed)
    for node in nodes:
        assert "cache/images.json" in environment.node_files(node), "the peer cannot remember what was ordered"
    now = status(kubectl, "large", namespace)
    assert f"{len(nodes)}/{len(nodes)}" == now["summary"]
    assert {image.digest for image in pushed} == {image["digest"] for image in now["images"]}

    site.registry.stop()
    pods = {f"{number}-{node}": (image.name, node) for number, image in enumerate(pushed) for node in nodes}
    kubectl.apply(*(pod(name, namespace, image, node) for name, (image, node) in pods.items()))
    kubectl("wait", "pod", "--all", "--for=condition=Ready", "--timeout=60s", f"--namespace={namespace}")


def test_a_node_that_joins_takes_pods_only_when_it_has_the_images(
    environment: Environment, release: Release, kubectl: Kubectl, site: RegistryHost, images: Images,
    namespace: str, cluster: Cluster,
) -> None:  # fmt: skip
    """It registers with the startup taint; the image comes, the taint goes, and only then a pod starts."""
    image = images.fresh(site, "joins", 8 * MIB)
    kubectl.apply(
        prefetch("joins", namespace, [image.name], completionPolicy="Continuous", startupTaint={"key": _TAINT})
    )
    kubectl.wait("imageprefetch/joins", "Ready", namespace)
    kubectl.apply(pod("late", namespace, image.name, "node4"))

    added = cluster.add_node(f"{_TAINT}:NoSchedule")

    try:
        assert added == "node4"
        assert _TAINT in _taints(kubectl, added), "the taint was gone at once: the case proves nothing"
        deadline = time.monotonic() + 120
        while True:
            scheduled = "nodeName" in kubectl.get("pod", "late", namespace)["spec"]
            if _TAINT not in _taints(kubectl, added):
                break
            assert not scheduled, "a pod came before the images"
            assert time.monotonic() < deadline, f"still there; {status(kubectl, 'joins', namespace)}"
            time.sleep(0.2)
        assert_on_nodes(cluster, [added], image)
        kubectl.wait("pod/late", "Ready", namespace, timeout=60)
        kubectl.wait("imageprefetch/joins", "Ready", namespace, timeout=60)
    finally:
        cluster.remove_node(added)
    assert_sent_once(site, image)


def test_a_tag_that_moves_in_the_middle_moves_on_all_nodes_or_on_none(
    environment: Environment, release: Release, kubectl: Kubectl, site: RegistryHost, images: Images,
    namespace: str, cluster: Cluster,
) -> None:  # fmt: skip
    """One node after the other, and the tag moves after the first: all get what it named; a new run moves all."""
    nodes = environment.nodes()
    first = images.fresh(site, "moves", 8 * MIB)
    site.shape("50mbit")
    kubectl.apply(prefetch("moves", namespace, [first.name], rollout={"parallelism": 1}))

    def began() -> None:
        assert status(kubectl, "moves", namespace).get("nodes", {}).get("active", 0) >= 1

    eventually(began, 30, interval=0.1)
    assert any(first.name not in runtime.images(cluster, node) for node in nodes), (
        "it was over before the tag could move"
    )
    second = images.move(site, first, 8 * MIB)

    kubectl.wait("imageprefetch/moves", "Ready", namespace)
    assert_on_nodes(cluster, nodes, first)

    kubectl("annotate", "imageprefetch/moves", "pantala.dev/requested-at=again", f"--namespace={namespace}")

    eventually(lambda: assert_on_nodes(cluster, nodes, second), 60)
    kubectl.wait("imageprefetch/moves", "Ready", namespace)
    [seen] = status(kubectl, "moves", namespace)["images"]
    assert second.digest == seen["digest"]


def _taints(kubectl: Kubectl, node: str) -> list[str]:
    return [taint["key"] for taint in kubectl.get("node", node)["spec"].get("taints", [])]
