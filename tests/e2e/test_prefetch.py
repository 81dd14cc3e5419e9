"""ImagePrefetch: the nodes that it reaches have the images before a pod needs them."""

from pantala_protocol import task_id
from testbed.cluster import Cluster, runtime
from testbed.cluster.registry_host import RegistryHost
from testbed.debian import PACKAGES
from tests.e2e.case import MIB, Case, passes
from tests.e2e.environment import Environment
from tests.e2e.images import Images, assert_on_nodes, assert_sent_once
from tests.support.eventually import eventually_blocking

_LARGE = 200 * 1000 * 1000
_TAINT = "startup.pantala.dev/images-missing"


def test_large_images_run_without_a_registry(case: Case, cluster: Cluster, site: RegistryHost, images: Images) -> None:
    """Each runtime has two images of Debian packages by their tags. The registry sent each blob once."""
    nodes = case.nodes
    pushed = [images.large(site, name) for name in PACKAGES]
    assert all(image.size > _LARGE for image in pushed)
    site.registry.forget()
    case.apply(case.prefetch("large", *pushed))

    case.ready("imageprefetch/large", timeout=240)

    assert_on_nodes(cluster, nodes, *pushed)
    assert_sent_once(site, *pushed)
    for node in nodes:
        assert "cache/images.json" in case.environment.node_files(node), "the peer cannot remember its orders"
    status = case.status("imageprefetch/large")
    assert f"{len(nodes)}/{len(nodes)}" == status["summary"]
    assert {image.digest for image in pushed} == {image["digest"] for image in status["images"]}

    site.registry.stop()
    pods = {f"{number}-{node}": (image.name, node) for number, image in enumerate(pushed) for node in nodes}
    case.apply(*(case.pod(name, image, node) for name, (image, node) in pods.items()))
    case.pods_ready()


def test_a_new_node_waits_for_its_images(case: Case, cluster: Cluster, site: RegistryHost, images: Images) -> None:
    """The node registers with the startup taint. A pod starts only after the image came and the taint was removed."""
    image = images.fresh(site, "joins", 8 * MIB)
    case.apply(case.prefetch("joins", image, completionPolicy="Continuous", startupTaint={"key": _TAINT}))
    case.ready("imageprefetch/joins")
    case.apply(case.pod("late", image.name, "node4"))

    added = cluster.add_node(f"{_TAINT}:NoSchedule")

    try:
        assert added == "node4"
        assert _is_tainted(case, added), "the taint was removed at once, so the case proves nothing"
        early = []

        def is_untainted() -> bool:
            scheduled = "nodeName" in case.get("pod/late")["spec"]
            tainted = _is_tainted(case, added)
            early.append(scheduled and tainted)
            return not tainted

        eventually_blocking(is_untainted, within=120, every=0.2, what="the taint is removed")
        assert not any(early), "the pod was scheduled before the images came"
        assert_on_nodes(cluster, [added], image)
        case.ready("pod/late", "imageprefetch/joins", timeout=60)
    finally:
        cluster.remove_node(added)
    assert_sent_once(site, image)


def test_a_tag_moves_on_all_nodes_or_none(case: Case, cluster: Cluster, site: RegistryHost, images: Images) -> None:
    """The tag moves after the first node. All nodes get the first image, and a new run moves all of them."""
    nodes = case.nodes
    first = images.fresh(site, "moves", 8 * MIB)
    site.shape("50mbit")
    case.apply(case.prefetch("moves", first, rollout={"parallelism": 1}))
    eventually_blocking(
        lambda: case.status("imageprefetch/moves").get("nodes", {}).get("active", 0) >= 1, within=30, every=0.1
    )
    assert any(first.name not in runtime.images(cluster, node) for node in nodes), "the run was too fast for the case"
    second = images.move(site, first, 8 * MIB)

    case.ready("imageprefetch/moves")
    assert_on_nodes(cluster, nodes, first)

    case.kubectl("annotate", "imageprefetch/moves", "pantala.dev/requested-at=again", f"--namespace={case.namespace}")

    passes(lambda: assert_on_nodes(cluster, nodes, second))
    case.ready("imageprefetch/moves")
    [seen] = case.status("imageprefetch/moves")["images"]
    assert second.digest == seen["digest"]


def _is_tainted(case: Case, node: str) -> bool:
    return _TAINT in [taint["key"] for taint in case.kubectl.get(f"node/{node}")["spec"].get("taints", [])]


_LABELS = {"app": "web"}


def test_images_follow_selected_pods_to_their_nodes(
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


def test_a_plan_is_free_and_depth_peer_fills_caches(
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
