"""The end-to-end cases run on a real multi-node cluster with one installation of the chart.

As root on Debian, the cases start the testbed's own cluster. If ``KUBECONFIG`` is set, they use that cluster. Then
``PANTALA_E2E_HOST`` is the address by which pods reach this machine. ``PANTALA_E2E_HELM_ARGS`` names the images, for
instance ``--set=image.registry=registry.example --set=image.tag=dev``. Without root and ``KUBECONFIG``, all cases are
skipped and the summary says so. With ``PANTALA_TESTBED_IPV6=1`` the own cluster has no IPv4. ``PANTALA_E2E_KEEP=1``
keeps the cluster and the installation after the last case.
"""

import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.cluster import Cluster
from testbed.cluster.command import CommandError
from testbed.cluster.registry_host import RegistryHost
from testbed.cluster.turn import lent
from testbed.origin import Origin
from tests.e2e.case import Case
from tests.e2e.environment import NAMESPACE, Environment, GivenCluster, OwnCluster
from tests.e2e.images import Images, Registries
from tests.e2e.kubectl import Kubectl
from tests.e2e.release import Release
from tests.support.origin_thread import OriginThread

_SKIPPED = pytest.StashKey[str]()
_ENVIRONMENT = pytest.StashKey[Environment]()
_REPORTS = pytest.StashKey[list[Path]]()
_FOLDER = Path(__file__).parent
_CASE_SECONDS = 300
_NODES = 3
_CASE = "pantala.dev/end-to-end-case"
"""Label of the cases' namespaces."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the cases. Their time limit excludes the shared set-up."""
    for item in items:
        if item.path.is_relative_to(_FOLDER):
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(_CASE_SECONDS, func_only=True))


@pytest.fixture(scope="session")
def environment(request: pytest.FixtureRequest) -> Iterator[Environment]:
    """The cluster. A cluster that ran before the tests keeps running."""
    config = request.config
    if given := os.environ.get("KUBECONFIG"):
        missing = [name for name in ("PANTALA_E2E_HOST", "PANTALA_E2E_HELM_ARGS") if name not in os.environ]
        if missing:
            _skip_all(config, f"set {' and '.join(missing)} as well as KUBECONFIG; see tests/e2e/conftest.py")
        config.stash[_ENVIRONMENT] = GivenCluster(Path(given))
        yield config.stash[_ENVIRONMENT]
        return
    if os.geteuid() != 0:
        _skip_all(config, "run them as root, or set KUBECONFIG to a cluster")
    with lent(_NODES, keep=bool(os.environ.get("PANTALA_E2E_KEEP"))) as cluster:
        config.stash[_ENVIRONMENT] = environment = OwnCluster(cluster)
        environment.kubectl("delete", "namespace", f"--selector={_CASE}")  # of an earlier run that was killed
        yield environment


def _skip_all(config: pytest.Config, why: str) -> None:
    config.stash[_SKIPPED] = why
    pytest.skip(why)


@pytest.fixture(scope="session")
def release(environment: Environment) -> Iterator[Release]:
    release = Release(environment)
    release.install("--set=monitoring.enabled=true", "--set=monitoring.dashboard.enabled=true")
    yield release
    if release.installed and not os.environ.get("PANTALA_E2E_KEEP"):
        release.uninstall()
    if isinstance(environment, OwnCluster):
        environment.cluster.recycle_volumes()


@pytest.fixture
def cluster(environment: Environment) -> Cluster:
    """The testbed's cluster, for cases that stop parts of it."""
    if not isinstance(environment, OwnCluster):
        pytest.skip("this case stops parts of the cluster, which needs the testbed's own cluster")
    return environment.cluster


@pytest.fixture(scope="session")
def _shared_origin(environment: Environment) -> Iterator[Origin]:
    with OriginThread(environment.host) as origin:
        yield origin


@pytest.fixture
def origin(_shared_origin: Origin) -> Iterator[Origin]:
    """An origin on this machine for the pods. It runs at full speed until the case slows it down."""
    yield _shared_origin
    _shared_origin.rate = None


@pytest.fixture(scope="session")
def _registry_hosts(environment: Environment) -> Iterator[Registries]:
    if not isinstance(environment, OwnCluster):
        pytest.skip("this case reads the logs of registries, which needs the testbed's own cluster")
    with Registries() as registries:
        yield registries


@pytest.fixture
def registries(_registry_hosts: Registries) -> Iterator[Registries]:
    _registry_hosts.reset()
    yield _registry_hosts
    _registry_hosts.reset()


@pytest.fixture
def site(registries: Registries) -> RegistryHost:
    return registries.site


@pytest.fixture
def images(cluster: Cluster, tmp_path: Path) -> Iterator[Images]:
    """Images of the case. No node has them before the case and after it."""
    images = Images(cluster, tmp_path)
    yield images
    images.forget()


@pytest.fixture
def case(environment: Environment, release: Release, request: pytest.FixtureRequest) -> Iterator[Case]:
    kubectl = environment.kubectl
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())[:40].strip("-")
    name = f"{name}-{uuid.uuid4().hex[:4]}"
    kubectl("create", "namespace", name)
    kubectl("label", "namespace", name, f"{_CASE}=true")
    # No pod can be created before its controller has made this account.
    kubectl("wait", "--for=create", "serviceaccount/default", f"--namespace={name}", "--timeout=60s")
    yield Case(environment, release, name)
    kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=false")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Collect the state of the cluster as soon as a case fails."""
    outcome = yield
    result = outcome.get_result()  # type: ignore[attr-defined]
    environment = item.config.stash.get(_ENVIRONMENT, None)
    if result.failed and environment is not None and item.path.is_relative_to(_FOLDER):
        folder = item.config.rootpath / "build" / "e2e" / f"{item.name}-{result.when}"
        item.config.stash.setdefault(_REPORTS, []).append(folder)
        _collect(environment.kubectl, folder)


def _collect(kubectl: Kubectl, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    questions = {
        "all.txt": ("get", "all,persistentvolumeclaims,persistentvolumes,nodes", "--all-namespaces", "--output=wide"),
        "tasks.yaml": ("get", "tasks.pantala.dev", "--all-namespaces", "--output=yaml"),
        "tasks.txt": ("describe", "tasks.pantala.dev", "--all-namespaces"),
        "prefetches.yaml": ("get", "imageprefetches.pantala.dev", "--all-namespaces", "--output=yaml"),
        "peers.yaml": ("get", "peers.pantala.dev", "--output=yaml"),
        "pods.txt": ("describe", "pods", f"--namespace={NAMESPACE}"),
        "events.txt": ("get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"),
    }
    for component in ("operator", "supernode", "peer"):
        selector = f"--selector=app.kubernetes.io/component={component}"
        logs = ("logs", f"--namespace={NAMESPACE}", selector, "--prefix", "--tail=2000", "--all-containers")
        questions[f"{component}.log"] = logs
        questions[f"{component}.previous.log"] = (*logs, "--previous")
    for name, question in questions.items():
        try:
            (folder / name).write_text(kubectl(*question, check=False, timeout=30))
        except CommandError as error:
            (folder / name).write_text(str(error))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if why := config.stash.get(_SKIPPED, ""):
        terminalreporter.section("END-TO-END CASES WERE SKIPPED", red=True)
        terminalreporter.line(why)
    for folder in config.stash.get(_REPORTS, []):
        terminalreporter.line(f"the state of the cluster at the failure: {folder}")
