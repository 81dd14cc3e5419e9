"""The uninstallation. The name of this file puts it after all other cases."""

from pantala_protocol import task_id
from testbed.cluster import Cluster, runtime
from testbed.cluster.registry_host import RegistryHost
from tests.e2e.case import MIB, passes
from tests.e2e.environment import NAMESPACE, Environment
from tests.e2e.images import Images, Pushed
from tests.e2e.release import Release


def test_uninstall_leaves_nothing_that_runs_and_names_what_it_keeps(
    environment: Environment, release: Release, cluster: Cluster, site: RegistryHost, images: Images
) -> None:
    """No process, mount, claim or cached blob is left, and containerd's settings are as before."""
    nodes, kubectl = environment.nodes(), environment.kubectl
    image = images.fresh(site, "cached", MIB)
    cluster.enter(nodes[0], *runtime.CTR, "images", "pull", "--hosts-dir=/etc/containerd/certs.d", image.name)
    assert _cached(environment, image), "no blob is cached, so the case proves nothing"
    assert all(_processes(cluster, node) for node in nodes), "no peer runs, so the case proves nothing"
    changed = [node for node in nodes if release.settings_before[node] != environment.containerd_settings(node)]
    assert nodes == changed, "containerd's settings do not name the mirror, so the case proves nothing"

    output = release.uninstall()

    assert "/var/lib/pantala" in output
    assert "tasks.pantala.dev" in output
    assert kubectl.exists("customresourcedefinition/tasks.pantala.dev")

    def nothing_runs() -> None:
        for node in nodes:
            assert [] == _processes(cluster, node), f"processes on {node}"
            assert [] == _mounts(cluster, node), f"mounts on {node}"
        assert [] == kubectl.list("persistentvolumeclaims", NAMESPACE)
        assert [] == kubectl.list("pods", NAMESPACE)
        kinds = "leases,secrets,configmaps,services,roles,rolebindings,daemonsets,jobs,poddisruptionbudgets"
        left = {f"{each['kind']} {each['metadata']['name']}" for each in kubectl.list(kinds, NAMESPACE)}
        assert [] == [each for each in left if "pantala" in each]  # other cases leave objects of their own

    passes(nothing_runs)
    for node in nodes:
        assert release.settings_before[node] == environment.containerd_settings(node), f"of {node}"
        assert [] == [file for file in environment.node_files(node) if file.startswith("containerd/")], f"of {node}"
    assert [] == _cached(environment, image)


def _cached(environment: Environment, image: Pushed) -> list[str]:
    names = {task_id.of_blob(blob) for blob in image.image.blobs}
    files = [file for node in environment.nodes() for file in environment.node_files(node)]
    return [file for file in files if names & {*file.split("/")}]


def _processes(cluster: Cluster, node: str) -> list[str]:
    """Pantala's running containers on the node. The kubelet forgets ended ones within a minute."""
    containers = cluster.enter(node, *runtime.CTR, "containers", "list").splitlines()
    running = {line.split()[0] for line in cluster.enter(node, *runtime.CTR, "tasks", "list").splitlines()}
    return [line for line in containers if "/pantala/" in line and line.split()[0] in running]


def _mounts(cluster: Cluster, node: str) -> list[str]:
    lines = cluster.enter(node, "cat", "/proc/self/mounts").splitlines()
    return [line for line in lines if "/var/lib/kubelet/pods/" in line]
