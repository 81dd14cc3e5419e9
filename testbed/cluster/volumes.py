"""Local volumes on the nodes, and their StorageClass, which is the default."""

import json
import shutil
from pathlib import Path
from typing import Any

from testbed.cluster import layout
from testbed.cluster.control_plane import ControlPlane
from testbed.cluster.layout import NodePlace

_PER_NODE = 2
_SIZE = "100Gi"
"""The size in the PersistentVolume. It is not enforced."""


def storage_class() -> dict[str, Any]:
    """The manifest of the default StorageClass. A claim is bound when its pod is scheduled."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": layout.STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def of_node(place: NodePlace) -> list[dict[str, Any]]:
    """Make the folders of a node's volumes, and return the PersistentVolumes. A pod's fsGroup becomes their group."""
    return [_volume(place, _folder(f"{place.name}-{number}")) for number in range(1, _PER_NODE + 1)]


def recycle(control_plane: ControlPlane) -> list[str]:
    """Empty the volumes whose claim was deleted, and make them available again. Returns their names."""
    released = []
    for volume in json.loads(control_plane.kubectl("get", "persistentvolumes", "-o", "json"))["items"]:
        if volume["status"]["phase"] != "Released":
            continue
        name = volume["metadata"]["name"]
        shutil.rmtree(layout.DATA / "volumes" / name)
        _folder(name)
        forget = json.dumps([{"op": "remove", "path": "/spec/claimRef"}])
        control_plane.kubectl("patch", "persistentvolume", name, "--type=json", f"--patch={forget}")
        released.append(name)
    return released


def _folder(name: str) -> Path:
    path = layout.DATA / "volumes" / name
    path.mkdir(parents=True, exist_ok=True, mode=0o770)
    return path


def _volume(place: NodePlace, folder: Path) -> dict[str, Any]:
    only_here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [place.name]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": folder.name, "labels": {"kubernetes.io/hostname": place.name}},
        "spec": {
            "capacity": {"storage": _SIZE},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": layout.STORAGE_CLASS,
            "persistentVolumeReclaimPolicy": "Retain",
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [only_here]}]}},
        },
    }
