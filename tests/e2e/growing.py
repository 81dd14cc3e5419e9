"""A StorageClass whose volumes grow: real filesystems in memory, and the provisioner that expands them.

Kubernetes itself only records the wish of a claim. Elsewhere a CSI driver expands the volume, and here a
thread does.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from testbed.cluster import Cluster, layout
from testbed.cluster.command import CommandError
from tests.e2e.kubectl import Kubectl, Resource

NAME = "growing"
_INTERVAL = 0.3


@contextmanager
def growing_volumes(cluster: Cluster, kubectl: Kubectl) -> Iterator[None]:
    """Offer one volume of 1 GiB on each node. Inside the block, volumes grow when their claims ask for it."""
    paths = {node: str(layout.DATA / "volumes" / f"{NAME}-{node}") for node in cluster.nodes}
    for node, path in paths.items():
        cluster.enter(node, "mkdir", "-p", path)
        cluster.enter(node, "mount", "-t", "tmpfs", "-o", "size=1g,mode=0770", "tmpfs", path)
    kubectl.apply(_storage_class(), *(_volume(node, path) for node, path in paths.items()))
    ended = threading.Event()
    thread = threading.Thread(target=_expand_all, args=(cluster, kubectl, paths, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(10)
        kubectl("delete", "persistentvolume", f"--selector=class={NAME}", "--wait=false")
        kubectl("delete", "storageclass", NAME)
        for node, path in paths.items():
            cluster.enter(node, "umount", "--lazy", path, check=False)


def _expand_all(cluster: Cluster, kubectl: Kubectl, paths: dict[str, str], ended: threading.Event) -> None:
    while not ended.wait(_INTERVAL):
        try:
            for claim in kubectl.list("persistentvolumeclaims"):
                if claim["spec"].get("storageClassName") == NAME and claim["status"].get("phase") == "Bound":
                    _expand(cluster, kubectl, claim, paths)
        except CommandError:
            continue  # the API server may be busy


def _expand(cluster: Cluster, kubectl: Kubectl, claim: Resource, paths: dict[str, str]) -> None:
    wanted = claim["spec"]["resources"]["requests"]["storage"]
    if wanted == claim["status"]["capacity"]["storage"]:
        return
    volume = claim["spec"]["volumeName"]
    node = volume.removeprefix(f"{NAME}-")
    cluster.enter(node, "mount", "-o", f"remount,size={wanted.removesuffix('i').lower()}", paths[node])
    capacity = {"capacity": {"storage": wanted}}
    kubectl("patch", "persistentvolume", volume, f"--patch={json.dumps({'spec': capacity})}")
    where = (claim["metadata"]["name"], f"--namespace={claim['metadata']['namespace']}")
    kubectl(
        "patch", "persistentvolumeclaim", *where, "--subresource=status", f"--patch={json.dumps({'status': capacity})}"
    )


def _storage_class() -> Resource:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": NAME},
        "provisioner": "pantala.dev/tests",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": True,
    }


def _volume(node: str, path: str) -> Resource:
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{NAME}-{node}", "labels": {"class": NAME}},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": NAME,
            "persistentVolumeReclaimPolicy": "Retain",
            "local": {"path": path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }
