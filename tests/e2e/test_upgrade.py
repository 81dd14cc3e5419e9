"""The release of the version before is upgraded, rolled back and upgraded with larger volumes. Then helm test runs.

The cases run in this order, and the name of this file puts them after the uninstallation.
"""

import time
from collections.abc import Iterator

import pytest

from testbed.cluster import Cluster
from testbed.origin import Generated, Origin, sha256
from tests.e2e import former
from tests.e2e.case import MIB, Case, passes
from tests.e2e.environment import NAMESPACE, Environment
from tests.e2e.growing import NAME, growing_volumes
from tests.e2e.release import Release

_KEPT = "/upgrade/kept"
_RUNNING = "/upgrade/running"
_SIZE = 96 * MIB
_RATE = MIB
"""Bytes a second. The rest of the file takes longer than an upgrade and a rollback."""
_ON_THE_WAY = 8 * MIB
_CLAIM = "persistentvolumeclaim/data-pantala-supernode-0"
_FOLDER = "/var/lib/pantala"


@pytest.fixture(scope="module")
def upgraded(release: Release, environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """The former version with small volumes that can grow. The cases change it."""
    cluster = getattr(environment, "cluster", None)
    if not isinstance(cluster, Cluster):
        pytest.skip("these cases make volumes, which needs the testbed's own cluster")
    if release.installed:
        release.uninstall()
    with growing_volumes(cluster, environment.kubectl):
        before = former.unpack(cluster, tmp_path_factory.mktemp("former"))
        more = (
            "--set=supernode.persistence.size=1Gi",
            f"--set=supernode.persistence.storageClassName={NAME}",
            "--set=peer.maxUnavailable=100%",
        )
        release.install(*more, former=before)
        yield release
        release.uninstall()
        passes(lambda: _no_claims(environment))


@pytest.fixture
def case(upgraded: Release, case: Case) -> Case:
    assert upgraded is case.release
    return case


def test_a_task_continues_during_an_upgrade_and_a_rollback(case: Case, origin: Origin) -> None:
    """The finished file stays. Of the other one, two kinds of bytes leave the origin twice.

    Some were on their way during a restart. The new version recorded others with BLAKE3, which the former one lacks.
    """
    kept, running = Generated(4 * MIB, seed=61), Generated(_SIZE, seed=62)
    origin.serve(_KEPT, kept)
    origin.serve(_RUNNING, running)
    case.apply(case.task("kept", origin.url(_KEPT)))
    case.ready("task/kept")
    origin.rate = _RATE
    case.apply(case.task("running", origin.url(_RUNNING)))
    before = case.cached("running", 0.15)["pieces"]["cached"]

    case.release.upgrade()
    after = case.status("task/running")["pieces"]
    assert before <= after["cached"] < after["total"], "the Task was complete too early: slow the origin"
    case.assert_published("kept", kept)

    origin.rate = _RATE / 16
    newer = origin.body_bytes(_RUNNING) - before * _SIZE // after["total"]
    case.release.rollback(1)
    origin.rate = None
    case.ready("task/running", "task/kept")
    case.assert_published("running", running)
    case.assert_published("kept", kept)
    assert kept.size == origin.body_bytes(_KEPT)
    again = origin.body_bytes(_RUNNING) - running.size
    accesses = [(access.range, access.sent) for access in origin.requests(_RUNNING)]
    assert 0 <= again < _ON_THE_WAY + newer, accesses


def test_a_volume_grows_without_losing_a_copy(case: Case, origin: Origin) -> None:
    """From 1 GiB to 2 GiB, in the upgrade from the former version."""
    path, body = "/upgrade/grown", Generated(32 * MIB, seed=63)
    origin.serve(path, body)
    case.apply(case.task("grown", origin.url(path)))
    case.ready("task/grown")
    copy = _copy(case, body)
    assert copy
    claim = case.kubectl.get(_CLAIM, NAMESPACE)
    assert ("1Gi", True) == (claim["status"]["capacity"]["storage"], _gib(case) <= 1)

    case.release.upgrade("--set=supernode.persistence.size=2Gi")

    grown = case.kubectl.get("statefulset/pantala-supernode", NAMESPACE)["spec"]["volumeClaimTemplates"][0]
    assert "2Gi" == grown["spec"]["resources"]["requests"]["storage"]
    passes(lambda: _assert_grown(case, claim["metadata"]["uid"]))
    assert copy == _copy(case, body)
    case.ready("task/grown")
    case.assert_published("grown", body)
    assert body.size == origin.body_bytes(path)
    left = case.kubectl("get", "jobs,roles,rolebindings,serviceaccounts", f"--namespace={NAMESPACE}", "--output=name")
    assert "growth" not in left


def test_helm_test_brings_a_file_and_an_image_and_leaves_nothing(case: Case) -> None:
    began = time.monotonic()
    output = case.release.test()
    assert time.monotonic() - began < 120
    for words in ("3 of 3 nodes", "Task: ", "ImagePrefetch: "):
        assert words in output
    kinds = (
        "tasks.pantala.dev,imageprefetches.pantala.dev,sourcepolicies.pantala.dev,pods,services,roles,serviceaccounts"
    )
    for kind in kinds.split(","):
        assert [] == [each for each in case.kubectl.list(kind) if each["metadata"]["name"] == "pantala-test"], kind


def _copy(case: Case, body: Generated) -> list[str]:
    """The copy of the file on the supernode's volume, with the inode of its data. Empty if it is not there."""
    script = f"cd {_FOLDER}/tasks && sha256sum */*/data"
    pod = ("exec", f"--namespace={NAMESPACE}", "pantala-supernode-0", "--", "sh", "-c")
    names = [name for digest, name in map(str.split, case.kubectl(*pod, script).splitlines()) if digest == sha256(body)]
    return [case.kubectl(*pod, f"cd {_FOLDER}/tasks && ls -i {name}").strip() for name in names]


def _gib(case: Case) -> float:
    """The size of the filesystem that the supernode sees."""
    program = f"import os; found = os.statvfs('{_FOLDER}'); print(found.f_blocks * found.f_frsize)"
    pod = ("exec", f"--namespace={NAMESPACE}", "pantala-supernode-0", "--", "python3", "-c")
    return int(case.kubectl(*pod, program)) / 1024**3


def _assert_grown(case: Case, uid: str) -> None:
    claim = case.kubectl.get(_CLAIM, NAMESPACE)
    assert (uid, "2Gi") == (claim["metadata"]["uid"], claim["status"]["capacity"]["storage"])
    assert 2 == _gib(case)


def _no_claims(environment: Environment) -> None:
    assert [] == environment.kubectl.list("persistentvolumeclaims", NAMESPACE)
