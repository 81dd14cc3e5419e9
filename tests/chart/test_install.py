"""The chart against a real API server. It has no controllers, so no pod runs."""

from collections.abc import Callable, Iterator

import pytest

from testbed.apiserver import ControlPlane
from tests.chart.rendered import CHART, Helm

pytestmark = pytest.mark.controlplane

NAMESPACE = "pantala-system"
OPERATOR = f"system:serviceaccount:{NAMESPACE}:pantala-operator"


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    with ControlPlane() as control_plane:
        yield control_plane


@pytest.fixture(scope="module")
def release(control_plane: ControlPlane, helm: Helm) -> Iterator[Callable[..., str]]:
    """Runs Helm for one release and expects success. Uninstalls the release afterwards."""
    where = ("--kubeconfig", str(control_plane.kubeconfig), "--namespace", NAMESPACE)

    def run(*arguments: str) -> str:
        result = helm(*arguments, *where)
        assert result.returncode == 0, result.stderr
        return result.stdout + result.stderr

    run("install", "pantala", str(CHART), "--create-namespace")
    yield run
    helm("uninstall", "pantala", "--no-hooks", "--ignore-not-found", *where)


@pytest.mark.parametrize(
    ("level", "default", "refused"),
    [
        ("restricted", "privileged", True),
        ("baseline", "privileged", True),
        ("privileged", "restricted", False),
        ("none", "privileged", False),
        ("unchecked", "baseline", False),
        ("none", "baseline", True),
    ],
)
def test_helm_asks_for_the_pod_security_label_before_it_installs(
    control_plane: ControlPlane, helm: Helm, level: str, default: str, refused: bool
) -> None:
    namespace = f"level-{level}-{default}"
    control_plane.kubectl("create", "namespace", namespace)
    if level not in ("none", "unchecked"):
        control_plane.kubectl("label", "namespace", namespace, f"pod-security.kubernetes.io/enforce={level}")
    done = helm(
        "install", "second", str(CHART), f"--namespace={namespace}", "--dry-run=server", "--set=crds.enabled=false",
        f"--set=podSecurity.clusterDefault={default}", f"--set=podSecurity.check={str(level != 'unchecked').lower()}",
        f"--kubeconfig={control_plane.kubeconfig}",
    )  # fmt: skip
    command = f"kubectl label --overwrite namespace {namespace} pod-security.kubernetes.io/enforce=privileged"
    assert (refused, refused) == (done.returncode != 0, command in done.stderr), done.stderr


def test_helm_names_how_to_create_a_namespace_with_the_label(control_plane: ControlPlane, helm: Helm) -> None:
    done = helm(
        "install", "second", str(CHART), "--namespace=missing", "--dry-run=server", "--create-namespace",
        "--values", str(CHART / "values" / "talos.yaml"), f"--kubeconfig={control_plane.kubeconfig}",
    )  # fmt: skip
    assert "kubectl create namespace missing && kubectl label --overwrite namespace missing" in done.stderr


def test_helm_refuses_larger_volumes_of_a_class_that_cannot_expand(
    control_plane: ControlPlane, helm: Helm, release: Callable[..., str]
) -> None:
    """The StatefulSet has no controller here, so the test makes its claim."""
    objects = """
        {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "fixed"},
         "provisioner": "none"}
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data-pantala-supernode-0"},
         "spec": {"storageClassName": "fixed", "accessModes": ["ReadWriteOnce"],
                  "resources": {"requests": {"storage": "50Gi"}}}}
    """
    where = (f"--namespace={NAMESPACE}", f"--kubeconfig={control_plane.kubeconfig}")
    control_plane.kubectl("create", f"--namespace={NAMESPACE}", "-f", "-", text=objects)
    upgrade = ("upgrade", "pantala", str(CHART), "--dry-run=server", *where)
    larger = "--set=supernode.persistence.size=60Gi"
    done = helm(*upgrade, larger)
    assert 0 != done.returncode
    assert "The supernodes' volumes have the StorageClass fixed, which does not allow another size" in done.stderr
    assert "supernode.persistence.size: 50Gi" in done.stderr
    assert 0 == helm(*upgrade).returncode
    control_plane.kubectl("patch", "storageclass", "fixed", '--patch={"allowVolumeExpansion": true}')
    done = helm(*upgrade, larger)
    assert 0 == done.returncode, done.stderr
    assert "pre-upgrade,pre-rollback" in done.stdout
    assert "pre-upgrade,pre-rollback" not in helm(*upgrade).stdout
    control_plane.kubectl("delete", "storageclass/fixed")
    control_plane.kubectl("delete", "pvc/data-pantala-supernode-0", f"--namespace={NAMESPACE}", "--wait=false")


def test_upgrades_and_second_installs_keep_tasks(control_plane: ControlPlane, release: Callable[..., str]) -> None:
    control_plane.kubectl("apply", "-f", str(CHART.parents[1] / "crds" / "samples" / "task.yaml"))
    release("upgrade", "pantala", str(CHART), "--set", "peer.root=/srv/pantala")
    output = release("uninstall", "pantala", "--no-hooks")
    for crd in ("tasks.pantala.dev", "imageprefetches.pantala.dev", "peers.pantala.dev"):
        assert f"[CustomResourceDefinition] {crd}" in output
    assert control_plane.kubectl("get", "tasks.pantala.dev", "-A", "-o", "name") == "task.pantala.dev/linux-source\n"
    release("install", "pantala", str(CHART))


def test_a_second_release_is_refused(control_plane: ControlPlane, helm: Helm, release: Callable[..., str]) -> None:
    """Its operator would act on all Tasks, too."""
    done = helm(
        "install", "second", str(CHART), "--namespace=default", "--dry-run=server", "--set=crds.enabled=false",
        "--set=podSecurity.check=false", f"--kubeconfig={control_plane.kubeconfig}",
    )  # fmt: skip
    assert 0 != done.returncode
    assert 'ClusterRole "pantala-installation"' in done.stderr
    assert 'current value is "pantala"' in done.stderr


def test_the_notes_name_the_workloads_and_what_uninstalling_keeps(release: Callable[..., str]) -> None:
    notes = release("get", "notes", "pantala")
    for name in ("pantala-operator", "pantala-supernode", "pantala-peer", "/var/lib/pantala", "helm uninstall keeps"):
        assert name in notes


def test_the_first_task_in_the_notes_applies(control_plane: ControlPlane, release: Callable[..., str]) -> None:
    notes = release("get", "notes", "pantala")
    manifest = "\n".join(
        line.removeprefix("  ") for line in notes.partition("<<END\n")[2].partition("END")[0].splitlines()
    )
    assert "created" in control_plane.kubectl("create", "--dry-run=server", "-f", "-", text=manifest)


@pytest.mark.parametrize(
    ("account", "verb", "resource", "allowed"),
    [
        (OPERATOR, "patch", "tasks.pantala.dev/status", True),
        (OPERATOR, "patch", "tasks.pantala.dev", True),
        (OPERATOR, "patch", "nodes", False),
        (OPERATOR, "patch", "nodes/status", True),
        (OPERATOR, "get", "secrets", False),
        (OPERATOR, "list", "pods", False),
        (OPERATOR, "patch", "imageprefetches.pantala.dev", False),
        (OPERATOR, "delete", "nodes", False),
        (OPERATOR, "list", "secrets", False),
        (f"system:serviceaccount:{NAMESPACE}:pantala-supernode", "get", "secrets", False),
        (f"system:serviceaccount:{NAMESPACE}:pantala-peer", "list", "tasks.pantala.dev", False),
    ],
)
def test_the_api_server_grants_exactly_these_rights(
    control_plane: ControlPlane, release: Callable[..., str], account: str, verb: str, resource: str, allowed: bool
) -> None:
    resource, _, part = resource.partition("/")
    question = ("can-i", verb, resource, f"--subresource={part}", "--all-namespaces", f"--as={account}")
    expected = "yes" if allowed else "no"
    assert expected == control_plane.kubectl("auth", *question, check=False).strip()


def test_the_operator_may_get_only_one_statefulset(control_plane: ControlPlane, release: Callable[..., str]) -> None:
    def may(name: str) -> str:
        where = (f"--namespace={NAMESPACE}", f"--as={OPERATOR}")
        return control_plane.kubectl("auth", "can-i", "get", f"statefulsets.apps/{name}", *where, check=False).strip()

    assert ("yes", "no") == (may("pantala-supernode"), may("another"))
