"""The reach of images: the nodes of certain pods, only the peers' caches, or in a plan nothing."""

from pantala_protocol import task_id
from testbed.cluster import Cluster, runtime
from testbed.cluster.registry_host import RegistryHost
from tests.e2e.case import MIB, Case, passes
from tests.e2e.environment import Environment
from tests.e2e.images import Images, assert_on_nodes, assert_sent_once

_LABELS = {"app": "web"}


def test_images_reach_the_nodes_of_selected_pods_and_follow_them(
    case: Case, cluster: Cluster, site: RegistryHost, images: Images
) -> None:
    """The node of a selected pod gets the next image. With Continuous the node of a later pod gets it, too."""
    first, second, other = case.nodes
    now, then = images.fresh(site, "now", MIB), images.fresh(site, "then", 2 * MIB)
    case.apply(case.pod("web-1", now.name, first, labels=_LABELS), case.pod("other", now.name, other))
    case.pods_ready()
    site.registry.forget()
    target = {"podSelector": {"matchLabels": _LABELS}}
    case.apply(case.prefetch("web", then, target=target, completionPolicy="Continuous"))

    case.ready("imageprefetch/web", timeout=30)

    assert_on_nodes(cluster, [first], then)
    assert "1/1" == case.status("imageprefetch/web")["summary"]
    case.apply(case.pod("web-2", now.name, second, labels=_LABELS))
    passes(lambda: assert_on_nodes(cluster, [second], then))
    case.ready("imageprefetch/web", timeout=10)
    assert "2/2" == case.status("imageprefetch/web")["summary"]
    assert then.digest not in runtime.images(cluster, other).values()
    assert_sent_once(site, then)


def test_a_plan_changes_nothing_and_depth_peer_fills_only_the_caches(
    case: Case, cluster: Cluster, site: RegistryHost, images: Images
) -> None:
    """The plan knows what each node has. After depth Peer, a pod costs the registry no blob."""
    nodes = case.nodes
    there, wanted = images.fresh(site, "there", MIB), images.fresh(site, "wanted", 3 * MIB)
    case.apply(case.prefetch("there", there, target={"names": nodes[:1]}))
    case.ready("imageprefetch/there")
    site.registry.forget()
    before = _files(case.environment)

    case.apply(case.prefetch("plan", there, wanted, mode="Plan"))

    def planned() -> None:
        assert "Planned" == case.condition("imageprefetch/plan", "Ready").get("reason")

    passes(planned, within=30)
    both, one = there.size + wanted.size, wanted.size
    plan = case.status("imageprefetch/plan")["plan"]
    expected = {node: (1, one) if node == nodes[0] else (2, both) for node in nodes}
    assert expected == {each["node"]: (each["images"], each["bytes"]) for each in plan["nodes"]}
    assert (sum(size for _, size in expected.values()), both) == (plan["bytes"], plan["registryBytes"])
    assert {} == site.registry.blob_bytes()
    assert set() == _files(case.environment) - before  # files of earlier cases may be removed meanwhile
    tasks = [task["metadata"]["name"] for task in case.kubectl.list("tasks.pantala.dev", case.namespace)]
    assert [] == [name for name in tasks if "plan" in name]

    spec = {"source": {"image": wanted.name}, "depth": "Peer"}
    case.apply(case.resource("Task", "wanted", "pantala.dev/v1alpha1", spec=spec))
    case.ready("task/wanted")

    assert_sent_once(site, wanted)
    blobs = [task_id.of_blob(digest) for digest in wanted.image.blobs]
    for node in nodes:
        files = case.environment.node_files(node)
        assert dict.fromkeys(blobs, True) == {blob: any(blob in file for file in files) for blob in blobs}
        assert wanted.digest not in runtime.images(cluster, node).values()

    site.registry.forget()
    case.apply(case.pod("wanted", wanted.name, nodes[0]))
    case.ready("pod/wanted", timeout=30)
    assert {} == site.registry.blob_bytes()


def _files(environment: Environment) -> set[str]:
    found = {node: environment.node_files(node) for node in environment.nodes()}
    found["volume"] = environment.volume_files()
    return {f"{where}: {file}" for where, files in found.items() for file in files}
