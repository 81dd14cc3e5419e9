"""Starts, changes and removes the cluster of this machine."""

import contextlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Self

from testbed.binaries import assets
from testbed.cluster import control_groups, images, layout, packages, volumes
from testbed.cluster.command import CommandError, run
from testbed.cluster.control_plane import ControlPlane
from testbed.cluster.daemons import Daemons
from testbed.cluster.layout import NodePlace
from testbed.cluster.node import Node
from testbed.pki import Authority

_PROGRAMS = (
    "etcd", "kube-apiserver", "kubectl", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy",
    "coredns", "helm",
)  # fmt: skip
_REGISTERED_SECONDS = 60.0
_MADE = layout.DATA / "made.json"


class Cluster:
    """The only cluster of this machine. Start it with :meth:`up`, or use the running one with :meth:`attach`."""

    host = layout.HOST
    """The address of this machine as pods see it."""

    registry = layout.REGISTRY
    """The registry that nodes pull from."""

    kubeconfig = layout.KUBECONFIG
    """The kubeconfig of an administrator."""

    def __init__(self) -> None:
        self.programs = assets(_PROGRAMS)
        self._daemons = Daemons(layout.STATE / "daemons")
        self._authority = Authority(layout.STATE / "pki")
        self.control_plane = ControlPlane(self.programs, self._daemons, self._authority)

    @classmethod
    def up(cls, nodes: int = 3) -> Self:
        """Start the cluster, or add nodes until it has ``nodes``. Returns when all nodes are Ready."""
        if os.geteuid() != 0:
            raise CommandError("A cluster in network namespaces needs root. Or set KUBECONFIG to use another cluster.")
        packages.install_for_cluster()
        _make_mount_points()
        cluster = cls()
        cluster.control_plane.up()
        images.write_pause(layout.STATE / "pause.tar")
        cluster._apply(volumes.storage_class(), *_dns_service())
        cluster._start([NodePlace(number) for number in range(1, nodes + 1)])
        return cluster

    @classmethod
    def attach(cls) -> Self:
        """The running cluster. Raises :class:`CommandError` if none runs."""
        if not layout.KUBECONFIG.exists():
            raise CommandError("No cluster runs. Start one with python -m testbed.cluster up.")
        return cls()

    @property
    def nodes(self) -> list[str]:
        """The names of the running nodes, in order."""
        return [place.name for place in _places() if self._node(place.name).alive]

    def kubectl(self, *arguments: str, text: str | None = None, check: bool = True, timeout: float = 300.0) -> str:
        return self.control_plane.kubectl(*arguments, text=text, check=check, timeout=timeout)

    def add_node(self, taint: str = "") -> str:
        """Start one more node, with a taint ``key:effect`` if given. Returns its name when it is Ready."""
        place = NodePlace(max((place.number for place in _places()), default=0) + 1)
        self._start([place], taint)
        return place.name

    def stop_node(self, name: str) -> None:
        """Switch a node off. Its disk stays, and its containers end."""
        self._node(name).down()

    def start_node(self, name: str) -> None:
        """Switch a node on again. Returns when it is Ready."""
        self._start([NodePlace.named(name)])

    def remove_node(self, name: str) -> None:
        """Remove a node and its data, as if its machine were switched off and deleted."""
        node = self._node(name)
        node.down()
        selector = f"--selector=kubernetes.io/hostname={name}"
        self.kubectl("delete", "node", name, "--ignore-not-found")
        self.kubectl("delete", "persistentvolume", selector, "--wait=false")
        for folder in (node.place.settings, node.place.disk, *layout.DATA.glob(f"volumes/{name}-*")):
            shutil.rmtree(folder, ignore_errors=True)

    def enter(self, name: str, *command: str, check: bool = True, timeout: float = 300.0) -> str:
        """Run a command on a node and return its output."""
        return self._node(name).run(*command, check=check, timeout=timeout)

    def entering(self, name: str, *command: str) -> list[str]:
        """The command line that runs ``command`` on a node, with a terminal."""
        return self._node(name).command(*command)

    def path(self, name: str, path: str) -> Path:
        """This machine's path for a path on the node's own disk, e.g. ``/var/lib/pantala/files``."""
        return NodePlace.named(name).path(path)

    def shape(self, name: str, rate: str) -> None:
        """Limit a node's link in both directions, e.g. ``200mbit``. Empty: no limit."""
        self._node(name).shape(rate)

    def push(self, image: str) -> str:
        """Push ``localhost/<image>`` to the registry and return its name there."""
        return images.push(image)

    def recycle_volumes(self) -> list[str]:
        """Empty the volumes whose claim was deleted, and make them available again. Returns their names."""
        return volumes.recycle(self.control_plane)

    def stop_apiserver(self) -> None:
        self.control_plane.stop_apiserver()

    def start_apiserver(self) -> None:
        """Start the API server again. Returns when it is ready.

        The clients of the API server are restarted, because their back-off would delay them by up to a minute.
        """
        self.control_plane.start_apiserver()
        self.control_plane.restart_clients()
        for name in self.nodes:
            self._node(name).restart_clients()

    def _node(self, name: str) -> Node:
        return Node(NodePlace.named(name), self.programs, self._daemons, self._authority)

    def _start(self, places: list[NodePlace], taint: str = "") -> None:
        with ThreadPoolExecutor(max_workers=3) as pool:
            list(pool.map(lambda place: self._node(place.name).up(taint), places))
        for place in places:
            registered = partial(self.kubectl, "get", "node", place.name, "--ignore-not-found", "--output=name")
            self._daemons.wait(f"kubelet-{place.name}", registered, _REGISTERED_SECONDS)
            self._apply(*volumes.of_node(place))
        names = [f"node/{place.name}" for place in places]
        self.kubectl("wait", "--for=condition=Ready", "--timeout=90s", *names)

    def _apply(self, *objects: dict[str, Any]) -> None:
        every = {"apiVersion": "v1", "kind": "List", "items": objects}
        self.kubectl("apply", "--server-side", "--filename=-", text=json.dumps(every))


def down() -> None:
    """Remove the cluster in any state, also after a crash of :meth:`Cluster.up`."""
    daemons = Daemons(layout.STATE / "daemons")
    unused = Authority(layout.STATE / "pki")
    places = {place.name: place for place in _places()}
    for name in control_groups.left():
        with contextlib.suppress(ValueError):
            place = NodePlace.named(name.removeprefix("pantala-"))
            places[place.name] = place
    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(lambda place: Node(place, {}, daemons, unused).down(), places.values()))
    for name in daemons.names():
        daemons.stop(name, grace=0.0)
    run("ip", "link", "delete", layout.BRIDGE, check=False)
    made = json.loads(_MADE.read_text()) if _MADE.exists() else []
    for mount in _mounts_below(layout.DATA):
        run("umount", "--lazy", mount, check=False)
    shutil.rmtree(layout.STATE, ignore_errors=True)
    shutil.rmtree(layout.DATA, ignore_errors=True)
    for path in reversed(made):
        with contextlib.suppress(OSError):
            Path(path).rmdir()


def status() -> str:
    """A text that lists the cluster's running processes."""
    daemons = Daemons(layout.STATE / "daemons")
    lines = [f"{name:32} {daemons.pid(name) or 'not running'}" for name in daemons.names()]
    return "\n".join(lines) or "no cluster runs"


def _places() -> list[NodePlace]:
    """Every node that was started and not removed."""
    found = set()
    for path in (*layout.STATE.glob("node*"), *layout.DATA.glob("nodes/node*")):
        with contextlib.suppress(ValueError):
            found.add(NodePlace.named(path.name))
    return sorted(found)


def _make_mount_points() -> None:
    """Make the folders that a node mounts its own folders on, and record the new folders."""
    layout.DATA.mkdir(parents=True, exist_ok=True)
    made: list[str] = json.loads(_MADE.read_text()) if _MADE.exists() else []
    for path in map(Path, layout.OWN):
        missing = [each for each in (path, *path.parents) if not each.exists()]
        made += [str(each) for each in reversed(missing)]
        path.mkdir(parents=True, exist_ok=True)
    _MADE.write_text(json.dumps(made))


def _mounts_below(folder: Path) -> list[str]:
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return sorted((point for point in points if Path(point).is_relative_to(folder)), reverse=True)


def _dns_service() -> list[dict[str, Any]]:
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    labels = {"kubernetes.io/service-name": "kube-dns"}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system"},
            "spec": {"clusterIP": layout.DNS_SERVICE, "ports": ports},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "kube-dns-machine", "namespace": "kube-system", "labels": labels},
            "addressType": "IPv6" if layout.IPV6 else "IPv4",
            "endpoints": [{"addresses": [layout.HOST]}],
            "ports": ports,
        },
    ]
