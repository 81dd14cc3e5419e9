"""How far images go: to the nodes of certain pods, into the peers' caches alone, and in a plan not at all."""

from pantala_protocol import task_id
from testbed.cluster import Cluster, runtime
from testbed.cluster.registry_host import RegistryHost
from tests.e2e.environment import Environment
from tests.e2e.images import Images, Pushed, assert_on_nodes, assert_sent_once, pod, prefetch, status
from tests.e2e.kubectl import Kubectl, Resource, condition, eventually
from tests.e2e.release import Release
from tests.e2e.tasks import MIB

_LABELS = {"app": "web"}


def test_images_go_where_such_pods_run_and_follow_them(
    environment: Environment, release: Release, kubectl: Kubectl, site: RegistryHost, images: Images,
    namespace: str, cluster: Cluster,
) -> None:  # fmt: skip
    """A pod's node gets the image of its next version, others do not; with Continuous a further pod's node does."""
    first, second, other = environment.nodes()
    now, then = images.fresh(site, "now", MIB), images.fresh(site, "then", 2 * MIB)
    kubectl.apply(_web("web-1", namespace, now, first), pod("other", namespace, now.name, other))
    kubectl("wait", "pod", "--all", "--for=condition=Ready", "--timeout=60s", f"--namespace={namespace}")
    site.registry.forget()
    target = {"podSelector": {"matchLabels": _LABELS}}
    kubectl.apply(prefetch("web", namespace, [then.name], target=target, completionPolicy="Continuous"))

    kubectl.wait("imageprefetch/web", "Ready", namespace, timeout=30)

    assert_on_nodes(cluster, [first], then)
    assert "1/1" == status(kubectl, "web", namespace)["summary"]
    kubectl.apply(_web("web-2", namespace, now, second))
    eventually(lambda: assert_on_nodes(cluster, [second], then), 60)
    kubectl.wait("imageprefetch/web", "Ready", namespace, timeout=10)
    assert "2/2" == status(kubectl, "web", namespace)["summary"]
    assert then.digest not in runtime.images(cluster, other).values()
    assert_sent_once(site, then)


def test_a_plan_touches_nothing_and_depth_peer_goes_no_deeper_than_the_cache(
    environment: Environment, release: Release, kubectl: Kubectl, site: RegistryHost, images: Images,
    namespace: str, cluster: Cluster,
) -> None:  # fmt: skip
    """The plan knows what each node has. Then the blobs wait in the caches, and a pod costs the registry none."""
    nodes = environment.nodes()
    there, wanted = images.fresh(site, "there", MIB), images.fresh(site, "wanted", 3 * MIB)
    kubectl.apply(prefetch("there", namespace, [there.name], target={"names": nodes[:1]}))
    kubectl.wait("imageprefetch/there", "Ready", namespace)
    site.registry.forget()
    before = _files(environment)

    kubectl.apply(prefetch("plan", namespace, [there.name, wanted.name], mode="Plan"))
    eventually(lambda: _assert_planned(kubectl, "plan", namespace), 30)

    both, one = _size(there) + _size(wanted), _size(wanted)
    plan = status(kubectl, "plan", namespace)["plan"]
    expected = {node: (1, one) if node == nodes[0] else (2, both) for node in nodes}
    assert expected == {each["node"]: (each["images"], each["bytes"]) for each in plan["nodes"]}
    assert (sum(size for _, size in expected.values()), both) == (plan["bytes"], plan["registryBytes"])
    assert {} == site.registry.blob_bytes()
    assert set() == _files(environment) - before  # what earlier cases left may go meanwhile
    assert [] == [task for task in kubectl.list("tasks.pantala.dev", namespace) if "plan" in task["metadata"]["name"]]

    kubectl.apply(_cached("wanted", namespace, wanted))
    kubectl.wait("tasks.pantala.dev/wanted", "Ready", namespace)

    assert_sent_once(site, wanted)
    blobs = [task_id.of_blob(digest) for digest in wanted.image.blobs]
    for node in nodes:
        files = environment.node_files(node)
        assert dict.fromkeys(blobs, True) == {blob: any(blob in file for file in files) for blob in blobs}
        assert wanted.digest not in runtime.images(cluster, node).values()

    site.registry.forget()
    kubectl.apply(pod("wanted", namespace, wanted.name, nodes[0]))
    kubectl.wait("pod/wanted", "Ready", namespace, timeout=30)
    assert {} == site.registry.blob_bytes()


def _web(name: str, namespace: str, image: Pushed, node: str) -> Resource:
    made = pod(name, namespace, image.name, node)
    made["metadata"]["labels"] = _LABELS
    return made


def _cached(name: str, namespace: str, image: Pushed) -> Resource:
    return {
        "apiVersion": "pantala.dev/v1alpha1",
        "kind": "Task",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"source": {"image": image.name}, "depth": "Peer"},
    }


def _assert_planned(kubectl: Kubectl, name: str, namespace: str) -> None:
    found = kubectl.get("imageprefetches.pantala.dev", name, namespace)
    assert "Planned" == condition(found, "Ready").get("reason"), found.get("status")


def _files(environment: Environment) -> set[str]:
    """All that is cached, on nodes and on the supernode's volume."""
    found = {node: environment.node_files(node) for node in environment.nodes()}
    return {
        f"{where}: {file}" for where, files in {**found, "volume": environment.volume_files()}.items() for file in files
    }


def _size(image: Pushed) -> int:
    return sum(image.image.blobs.values())
