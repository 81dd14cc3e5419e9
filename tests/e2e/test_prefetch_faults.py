"""ImagePrefetch under faults: the healthy nodes finish, and the status names each cause."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

from testbed.cluster import Cluster, runtime
from testbed.cluster.registry_host import RegistryHost
from tests.e2e.case import MIB, Case, passes
from tests.e2e.images import Images, assert_on_nodes
from tests.support.eventually import eventually_blocking

_CONTENT = "/var/lib/containerd/io.containerd.content.v1.content"
_ROOM = "/run/containerd/pantala-e2e"
_SUSPENDED_SECONDS = 4


def test_healthy_nodes_finish_and_the_status_names_each_cause(
    case: Case, cluster: Cluster, site: RegistryHost, images: Images
) -> None:
    """One runtime's disk is full, one node is down, and one image does not exist. After the repair it is Ready."""
    nodes = case.nodes
    busy = {case.release.node_of("supernode"), case.release.node_of("operator")}
    down = next(node for node in nodes if node not in busy)
    full, well = (node for node in nodes if node != down)
    image, missing = images.fresh(site, "faults", 8 * MIB), images.fresh(site, "comes-later", MIB)
    wrong = missing.name.removesuffix(":1") + ":2"
    spec = {"completionPolicy": "Continuous", "retry": {"backoffSeconds": 2}}

    def named() -> None:
        status = case.status("imageprefetch/faults")
        images = {(each["reason"], each.get("node", "")): each.get("image", "") for each in status.get("failures", [])}
        assert {("NodeUnavailable", down), ("NoSpace", full), ("NotFound", "")} <= images.keys(), status
        assert image.name in images["NoSpace", full], status
        assert wrong in images["NotFound", ""], status
        assert "NotFound" == case.condition("imageprefetch/faults", "Resolved")["reason"]
        assert wrong in json.dumps(status["conditions"])

    cluster.stop_node(down)
    try:
        with _full(cluster, full):
            case.apply(case.prefetch("faults", wrong, image, **spec))
            passes(named, within=120)
            passes(lambda: assert_on_nodes(cluster, [well], image), within=30)
            assert image.name not in runtime.images(cluster, full)
            assert "False" == case.condition("imageprefetch/faults", "Ready")["status"]
    finally:
        cluster.start_node(down)
    case.apply(case.prefetch("faults", missing, image, **spec))  # a corrected spec begins a new run

    passes(lambda: assert_on_nodes(cluster, nodes, image, missing), within=90)
    case.ready("imageprefetch/faults")
    assert f"{len(nodes)}/{len(nodes)}" == case.status("imageprefetch/faults")["summary"]


def test_too_many_failures_stop_the_rollout(case: Case, site: RegistryHost, images: Images) -> None:
    """The registry has lost a layer. One node tries and fails, and no other node begins."""
    image = images.fresh(site, "broken", 2 * MIB)
    site.lose(max(image.image.blobs, key=lambda digest: image.image.blobs[digest]))
    case.apply(case.prefetch("broken", image, rollout={"parallelism": 1, "maxFailures": 0}))

    def halted() -> None:
        stalled = case.condition("imageprefetch/broken", "Stalled")
        assert ("True", "TooManyFailures") == (stalled.get("status"), stalled.get("reason")), stalled

    passes(halted)
    time.sleep(2)
    counts = case.status("imageprefetch/broken")["nodes"]
    assert (1, len(case.nodes) - 1) == (counts["failed"], counts["waiting"]), counts


def test_suspending_cancels_the_pulls_and_resuming_continues(
    case: Case, cluster: Cluster, site: RegistryHost, images: Images
) -> None:
    """While it is suspended, no pull continues or begins. Afterwards all nodes get the image."""
    nodes = case.nodes
    image = images.fresh(site, "suspended", 24 * MIB)
    site.shape("16mbit")
    case.apply(case.prefetch("suspended", image, rollout={"parallelism": 2}))
    eventually_blocking(
        lambda: 2 == case.status("imageprefetch/suspended").get("nodes", {}).get("active", 0), within=30, every=0.1
    )
    _suspend(case, True)

    def quiet() -> None:
        assert "Suspended" == case.condition("imageprefetch/suspended", "Ready").get("reason")
        assert 0 == case.status("imageprefetch/suspended")["nodes"].get("active", 0)

    passes(quiet, within=10)
    site.shape("")
    time.sleep(_SUSPENDED_SECONDS)
    assert dict.fromkeys(nodes, False) == {node: image.name in runtime.images(cluster, node) for node in nodes}
    _suspend(case, False)

    case.ready("imageprefetch/suspended", timeout=60)
    assert_on_nodes(cluster, nodes, image)


def _suspend(case: Case, suspended: bool) -> None:
    patch = json.dumps({"spec": {"suspend": suspended}})
    command = ("patch", "imageprefetch/suspended", "--type=merge", f"--patch={patch}")
    case.kubectl(*command, f"--namespace={case.namespace}")


@contextmanager
def _full(cluster: Cluster, node: str) -> Iterator[None]:
    """Mount a disk over the runtime's folder that has room for two more MiB of content."""
    below = str(cluster.path(node, _CONTENT))
    used = int(cluster.enter(node, "du", "--summarize", "--block-size=1", _CONTENT).split()[0])
    size = f"size={used + 2 * MIB}"
    make = 'mkdir -p "$2" && mount -t tmpfs -o "$1" full "$2" && cp -a "$0/." "$2" && mount --bind "$2" "$0"'
    cluster.enter(node, "sh", "-ec", make, _CONTENT, size, _ROOM)
    try:
        yield
    finally:
        # The runtime knows the content that it wrote meanwhile, so it must exist on the disk below.
        cluster.enter(node, "cp", "-a", "--update", f"{_CONTENT}/.", below)
        cluster.enter(node, "umount", _CONTENT, _ROOM)
