"""ImagePrefetch when something is wrong: the others finish, and each cause is named."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

from testbed.cluster import Cluster, runtime
from testbed.cluster.registry_host import RegistryHost
from tests.e2e.environment import Environment
from tests.e2e.images import Images, assert_on_nodes, prefetch, status
from tests.e2e.kubectl import Kubectl, Resource, condition, eventually
from tests.e2e.release import Release
from tests.e2e.tasks import MIB

_CONTENT = "/var/lib/containerd/io.containerd.content.v1.content"
_ROOM = "/run/containerd/pantala-e2e"
_SUSPENDED_SECONDS = 4


def test_nodes_finish_what_they_can_and_each_cause_is_named(
    environment: Environment, release: Release, kubectl: Kubectl, site: RegistryHost, images: Images,
    namespace: str, cluster: Cluster,
) -> None:  # fmt: skip
    """One runtime's disk is full, one node is down, one image does not exist; when all is mended, it is Ready."""
    nodes = environment.nodes()
    busy = {release.node_of("supernode"), release.node_of("operator")}
    down = next(node for node in nodes if node not in busy)
    full, well = (node for node in nodes if node != down)
    image, missing = images.fresh(site, "faults", 8 * MIB), images.fresh(site, "comes-later", MIB)
    wrong = missing.name.removesuffix(":1") + ":2"
    cluster.stop_node(down)
    try:
        with _full(cluster, full):
            spec = {"completionPolicy": "Continuous", "retry": {"backoffSeconds": 2}}
            kubectl.apply(prefetch("faults", namespace, [wrong, image.name], **spec))

            def named() -> None:
                now = status(kubectl, "faults", namespace)
                causes = {(each["reason"], each.get("node", "")) for each in now.get("failures", [])}
                assert ("NoSpace", full) in causes, now
                assert ("NodeUnavailable", down) in causes, now
                assert image.name in next(each["image"] for each in now["failures"] if each["reason"] == "NoSpace")
                assert ("NotFound", "") in causes, now
                assert wrong in next(each["image"] for each in now["failures"] if each["reason"] == "NotFound")
                assert "NotFound" in {each["reason"] for each in (condition({"status": now}, "Resolved"),)}
                assert wrong in json.dumps(now["conditions"])

            eventually(named, 120)
            eventually(lambda: assert_on_nodes(cluster, [well], image), 30)
            assert image.name not in runtime.images(cluster, full)
            assert "False" == condition(_get(kubectl, "faults", namespace), "Ready")["status"]
    finally:
        cluster.start_node(down)
    kubectl.apply(prefetch("faults", namespace, [missing.name, image.name], **spec))  # a corrected spec is a new run

    eventually(lambda: assert_on_nodes(cluster, nodes, image, missing), 90)
    kubectl.wait("imageprefetch/faults", "Ready", namespace)
    assert f"{len(nodes)}/{len(nodes)}" == status(kubectl, "faults", namespace)["summary"]


def test_too_many_failures_keep_further_nodes_from_beginning(
    environment: Environment, release: Release, kubectl: Kubectl, site: RegistryHost, images: Images,
    namespace: str, cluster: Cluster,
) -> None:  # fmt: skip
    """The registry has lost a layer: one node tries, fails, and no other begins."""
    image = images.fresh(site, "broken", 2 * MIB)
    lost = max(image.image.blobs, key=lambda digest: image.image.blobs[digest])
    site.lose(lost)
    kubectl.apply(prefetch("broken", namespace, [image.name], rollout={"parallelism": 1, "maxFailures": 0}))

    def halted() -> None:
        stalled = condition(_get(kubectl, "broken", namespace), "Stalled")
        assert ("True", "TooManyFailures") == (stalled.get("status"), stalled.get("reason")), stalled

    eventually(halted, 60)
    time.sleep(2)
    counts = status(kubectl, "broken", namespace)["nodes"]
    assert (1, len(environment.nodes()) - 1) == (counts["failed"], counts["waiting"]), counts


def test_suspending_cuts_the_pulls_and_resuming_goes_on(
    environment: Environment, release: Release, kubectl: Kubectl, site: RegistryHost, images: Images,
    namespace: str, cluster: Cluster,
) -> None:  # fmt: skip
    """In the middle of the pulls: none goes on and none begins; later all nodes have the image."""
    nodes = environment.nodes()
    image = images.fresh(site, "suspended", 24 * MIB)
    site.shape("16mbit")
    kubectl.apply(prefetch("suspended", namespace, [image.name], rollout={"parallelism": 2}))

    def began() -> None:
        assert 2 == status(kubectl, "suspended", namespace).get("nodes", {}).get("active", 0)

    eventually(began, 30, interval=0.1)
    _suspend(kubectl, namespace, True)

    def quiet() -> None:
        now = _get(kubectl, "suspended", namespace)
        assert "Suspended" == condition(now, "Ready").get("reason"), now["status"]
        assert 0 == now["status"]["nodes"].get("active", 0)

    eventually(quiet, 10)
    site.shape("")
    time.sleep(_SUSPENDED_SECONDS)
    assert dict.fromkeys(nodes, False) == {node: image.name in runtime.images(cluster, node) for node in nodes}
    _suspend(kubectl, namespace, False)

    kubectl.wait("imageprefetch/suspended", "Ready", namespace, timeout=60)
    assert_on_nodes(cluster, nodes, image)


def _suspend(kubectl: Kubectl, namespace: str, suspended: bool) -> None:
    patch = json.dumps({"spec": {"suspend": suspended}})
    kubectl("patch", "imageprefetch/suspended", f"--namespace={namespace}", "--type=merge", f"--patch={patch}")


def _get(kubectl: Kubectl, name: str, namespace: str) -> Resource:
    return kubectl.get("imageprefetches.pantala.dev", name, namespace)


@contextmanager
def _full(cluster: Cluster, node: str) -> Iterator[None]:
    """The node's runtime has room for two further MiB of content: a full disk of its own is laid over its folder."""
    below = str(cluster.path(node, _CONTENT))
    used = int(cluster.enter(node, "du", "--summarize", "--block-size=1", _CONTENT).split()[0])
    size = f"size={used + 2 * MIB}"
    make = 'mkdir -p "$2" && mount -t tmpfs -o "$1" full "$2" && cp -a "$0/." "$2" && mount --bind "$2" "$0"'
    cluster.enter(node, "sh", "-ec", make, _CONTENT, size, _ROOM)
    try:
        yield
    finally:
        # What was written meanwhile is known to the runtime, and has to be there when the disk is as it was.
        cluster.enter(node, "cp", "-a", "--update", f"{_CONTENT}/.", below)
        cluster.enter(node, "umount", _CONTENT, _ROOM)
