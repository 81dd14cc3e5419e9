"""The mirror: pods' images come through it, and pods start without it."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import pytest

from testbed.cluster import Cluster
from testbed.cluster.registry_host import RegistryHost
from tests.e2e.case import MIB, Case, passes
from tests.e2e.environment import NAMESPACE
from tests.e2e.images import Images, Pushed, assert_sent_once

_SIZE = 40 * MIB
_SUPERNODE = "statefulset/pantala-supernode"


def test_three_pods_of_a_new_image_cost_the_registry_one_copy(case: Case, site: RegistryHost, images: Images) -> None:
    """No ImagePrefetch exists. The kubelets' own pulls meet in the mirror."""
    image = images.fresh(site, "rush", _SIZE)
    site.shape("100mbit")  # slow enough for three pulls at once
    site.registry.forget()
    _run_pods(case, image, case.nodes)
    assert_sent_once(site, image)


def test_a_removed_part_of_containerds_files_is_back_within_a_minute(case: Case, cluster: Cluster) -> None:
    """As after a start of k3s, which writes the folder again. The Peer names the change."""
    node = case.nodes[0]
    file = cluster.path(node, "/etc/containerd/certs.d/_default/hosts.toml")
    before = file.read_bytes()
    file.unlink()

    def repaired() -> None:
        assert before == (file.read_bytes() if file.exists() else b"")
        found = case.kubectl.get(f"peer/{node}")["status"]["conditions"]
        condition = next(each for each in found if each["type"] == "MirrorConfigured")
        assert ("True", "Probed") == (condition["status"], condition["reason"])
        assert "Another program changed hosts.toml of _default at " in condition["message"]

    passes(repaired, within=60.0)


@contextmanager
def _without_supernodes(case: Case) -> Iterator[None]:
    """The mirror answers that it has nothing, and containerd falls back to the registry."""
    try:
        case.kubectl.scale(_SUPERNODE, 0, NAMESPACE)
        case.kubectl.wait_deleted("supernode", NAMESPACE)
        yield
    finally:
        case.kubectl.scale(_SUPERNODE, 1, NAMESPACE)
        case.release.wait_ready()


@contextmanager
def _without_peers(case: Case) -> Iterator[None]:
    """Without the DaemonSet, containerd's settings still name the mirror. It falls back to the registry."""
    peers = case.kubectl.get("daemonset/pantala-peer", NAMESPACE)
    for field in ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"):
        peers["metadata"].pop(field, None)
    del peers["status"]
    case.kubectl.delete("daemonset/pantala-peer", NAMESPACE)
    try:
        case.kubectl.wait_deleted("peer", NAMESPACE)
        yield
    finally:
        case.kubectl("apply", "--server-side", "--field-manager=helm", "--filename=-", text=json.dumps(peers))
        case.release.wait_ready()


@pytest.mark.parametrize("without", [_without_peers, _without_supernodes])
def test_a_pod_of_a_new_image_starts_without_a_component(
    case: Case, site: RegistryHost, images: Images, without: Callable[[Case], AbstractContextManager[None]]
) -> None:
    image = images.fresh(site, "alone", MIB)
    with without(case):
        _run_pods(case, image, case.nodes[:1])
    assert_sent_once(site, image)


def _run_pods(case: Case, image: Pushed, nodes: Sequence[str]) -> None:
    case.apply(*(case.pod(f"pod-{node}", image.name, node) for node in nodes))
    for node in nodes:
        case.ready(f"pod/pod-{node}", timeout=60)
        [container] = case.status(f"pod/pod-{node}")["containerStatuses"]
        assert container["imageID"].endswith(image.digest)
