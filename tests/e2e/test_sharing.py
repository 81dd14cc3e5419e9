"""Several Tasks, one file; and Tasks that vanish while nobody looks."""

from testbed.origin import Generated, Origin
from tests.e2e.environment import NAMESPACE, Environment
from tests.e2e.kubectl import Kubectl
from tests.e2e.release import Release
from tests.e2e.tasks import MIB, assert_nothing_left, assert_published, manifest, status

_SIZE = 32 * MIB


def test_two_tasks_with_one_url_share_one_copy(
    environment: Environment, release: Release, kubectl: Kubectl, origin: Origin, namespace: str
) -> None:
    """One copy, one read of the origin; deleting one Task keeps the other's file, deleting both removes everything."""
    body = Generated(_SIZE, seed=20)
    origin.serve("/shared", body)
    url = origin.url("/shared")
    kubectl.apply(manifest("first", namespace, url), manifest("second", namespace, url, path="shared/second"))

    for name in ("first", "second"):
        kubectl.wait(f"task/{name}", "Ready", namespace)
    nodes = environment.nodes()
    assert_published(environment, nodes, f"{namespace}/first", body)
    assert_published(environment, nodes, "shared/second", body)
    assert [_SIZE] == [access.sent for access in origin.requests("/shared")]
    task_ids = {status(kubectl, name, namespace)["taskID"] for name in ("first", "second")}
    assert len(task_ids) == 1
    task_id = task_ids.pop()
    assert len(_copies(environment, task_id)) == 1

    kubectl.delete("task/first", namespace, timeout=10)

    assert_nothing_left(environment, "no such task", f"{namespace}/first")
    assert_published(environment, nodes, "shared/second", body)
    assert len(_copies(environment, task_id)) == 1

    kubectl.delete("task/second", namespace, timeout=10)

    assert_nothing_left(environment, task_id, "shared/second")


def test_a_namespace_goes_while_the_operator_is_down(
    environment: Environment, release: Release, kubectl: Kubectl, origin: Origin, namespace: str
) -> None:
    """The namespace is gone at once; its files go when the operator is back."""
    body = Generated(_SIZE, seed=21)
    origin.serve("/orphan", body)
    kubectl.apply(manifest("orphan", namespace, origin.url("/orphan")))
    kubectl.wait("task/orphan", "Ready", namespace)
    task_id = status(kubectl, "orphan", namespace)["taskID"]
    deployment = ("deployment/pantala-operator", f"--namespace={NAMESPACE}")
    kubectl("scale", *deployment, "--replicas=0")
    kubectl("wait", "pod", "--for=delete", "--selector=app.kubernetes.io/component=operator",
            f"--namespace={NAMESPACE}", "--timeout=60s")  # fmt: skip

    try:
        kubectl.delete(f"namespace/{namespace}", timeout=30)
        assert_published(environment, environment.nodes(), f"{namespace}/orphan", body)
    finally:
        kubectl("scale", *deployment, "--replicas=1")

    release.wait_ready()
    assert_nothing_left(environment, task_id, f"{namespace}/orphan")


def _copies(environment: Environment, task_id: str) -> list[str]:
    return [file for file in environment.volume_files() if task_id in file and file.endswith("/data")]
