"""The end: named so that it is run after all other cases."""

from pantala_protocol import task_id
from testbed.cluster import Cluster, runtime
from testbed.cluster.registry_host import RegistryHost
from tests.e2e.environment import NAMESPACE, Environment
from tests.e2e.images import Images, Pushed
from tests.e2e.kubectl import Kubectl, eventually
from tests.e2e.release import Release
from tests.e2e.tasks import MIB


def test_uninstall_leaves_nothing_that_runs_and_says_what_it_keeps(
    environment: Environment,
    release: Release,
    kubectl: Kubectl,
    cluster: Cluster,
    site: RegistryHost,
    images: Images,
) -> None:
    """No process, mount, claim or cached blob; containerd's settings as before to the byte; what it keeps, it names."""
    nodes = environment.nodes()
    image = images.fresh(site, "cached", MIB)
    cluster.enter(nodes[0], *runtime.CTR, "images", "pull", "--hosts-dir=/etc/containerd/certs.d", image.name)
    assert _cached(environment, image), "no blob is cached: the case proves nothing"
    assert all(_processes(cluster, node) for node in nodes), "no peer runs: the case proves nothing"
    told = [node for node in nodes if release.settings_before[node] != environment.containerd_settings(node)]

    said = release.uninstall()

    assert "/var/lib/pantala" in said
    assert "tasks.pantala.dev" in said
    assert kubectl.exists("customresourcedefinition", "tasks.pantala.dev")

    def nothing_runs() -> None:
        for node in nodes:
            assert [] == _processes(cluster, node), f"processes on {node}"
            assert [] == _mounts(cluster, node), f"mounts on {node}"
        assert [] == kubectl.list("persistentvolumeclaims", NAMESPACE)
        assert [] == kubectl.list("pods", NAMESPACE)

    eventually(nothing_runs, 60)
    _assert_containerd_as_before(environment, release, told)
    assert [] == _cached(environment, image)


def _assert_containerd_as_before(environment: Environment, release: Release, told: list[str]) -> None:
    assert environment.nodes() == told, "containerd was never told of the mirror: the case proves nothing"
    for node in environment.nodes():
        assert release.settings_before[node] == environment.containerd_settings(node), f"of {node}"
        assert [] == [file for file in environment.node_files(node) if file.startswith("containerd/")], f"of {node}"


def _cached(environment: Environment, image: Pushed) -> list[str]:
    """The files of the image's blobs on the nodes, as Pantala keeps them."""
    names = {task_id.of_blob(blob) for blob in image.image.blobs}
    files = [file for node in environment.nodes() for file in environment.node_files(node)]
    return [file for file in files if names & {*file.split("/")}]


def _processes(cluster: Cluster, node: str) -> list[str]:
    """Pantala's containers on the node that run: the kubelet forgets those that ended within a minute."""
    containers = cluster.enter(node, *runtime.CTR, "containers", "list").splitlines()
    running = {line.split()[0] for line in cluster.enter(node, *runtime.CTR, "tasks", "list").splitlines()}
    return [line for line in containers if "/pantala/" in line and line.split()[0] in running]


def _mounts(cluster: Cluster, node: str) -> list[str]:
    """The mounts of Pantala's pods, as the node sees them."""
    lines = cluster.enter(node, "cat", "/proc/self/mounts").splitlines()
    return [line for line in lines if "/var/lib/kubelet/pods/" in line]
