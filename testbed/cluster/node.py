"""One node: a real kubelet, containerd and kube-proxy, in their own network and mount namespaces."""

import contextlib
import json
import signal
from pathlib import Path

from testbed.cluster import control_groups, layout, link
from testbed.cluster.command import CommandError, run
from testbed.cluster.daemons import Daemons, end
from testbed.cluster.layout import NodePlace
from testbed.pki import Authority

_START_SECONDS = 30.0

_ENTER = """\
set -e
disk=$1; hosts=$2; shift 2
mount --bind "$hosts" /etc/hosts
for path in "$@"; do mount --bind "$disk$path" "$path"; done
mount --make-rshared /
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
touch "$disk/ready"
exec sleep infinity
"""

_CONTAINERD = f"""\
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{layout.PAUSE_IMAGE}"
  # Without CAP_SYS_RESOURCE no process may lower its score, and every sandbox would fail.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    discard_unpacked_layers = false
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"""

_HOSTS = """\
server = "http://{registry}"
[host."http://{registry}"]
  capabilities = ["pull", "resolve"]
"""


class Node:
    """One node, running or not."""

    def __init__(self, place: NodePlace, programs: dict[str, Path], daemons: Daemons, authority: Authority) -> None:
        self.place = place
        self._programs = programs
        self._daemons = daemons
        self._authority = authority
        self._names = [f"{part}-{place.name}" for part in ("kube-proxy", "kubelet", "containerd", "namespace")]

    @property
    def alive(self) -> bool:
        """True if all processes of the node run."""
        return all(self._daemons.pid(name) is not None for name in self._names)

    def up(self, taint: str = "") -> None:
        """Start the node. It soon registers itself at the API server, with a taint ``key:effect`` if given."""
        self._trust_registries()
        if self.alive:
            return
        self.down()
        self._make_folders()
        self._make_link()
        self._write_settings(taint)
        control_groups.make(self.place.network_namespace)
        self._enter_namespaces()
        self._start_containerd()
        self._start_kubernetes()

    def down(self) -> None:
        """End all processes and pods of the node, and remove its link and control groups. Its disk stays."""
        for name in self._names[:2]:
            self._daemons.stop(name, grace=1.0)
        for pid in self._processes():
            end(pid, signal.SIGKILL)
        control_groups.remove(self.place.network_namespace)
        for name in self._names[2:]:
            self._daemons.stop(name, grace=0.0)
        run("ip", "link", "delete", self.place.link, check=False)
        run("ip", "netns", "delete", self.place.network_namespace, check=False)

    def restart_clients(self) -> None:
        """Restart the kubelet and kube-proxy, so that they use the API server at once. Pods continue."""
        for name in self._names[:2]:
            self._daemons.stop(name, grace=0)
        self._start_kubernetes()

    def run(self, *command: str, text: str | None = None, check: bool = True, timeout: float = 300.0) -> str:
        """Run a command on the node and return its output."""
        return run(*self.command(*command), text=text, check=check, timeout=timeout)

    def command(self, *command: str) -> list[str]:
        """The command line that runs ``command`` on the node. Raises :class:`CommandError` if the node is down."""
        pid = self._daemons.pid(self._names[3])
        if pid is None:
            raise CommandError(f"{self.place.name} does not run")
        return ["nsenter", f"--target={pid}", "--mount", "--net", *command]

    def shape(self, rate: str) -> None:
        """Limit the node's link in both directions, e.g. ``200mbit``. Empty: no limit."""
        link.shape(self.place.network_namespace, self.place.link, rate)

    def _make_folders(self) -> None:
        for path in layout.OWN:
            self.place.path(path).mkdir(parents=True, exist_ok=True)
        self.place.settings.mkdir(parents=True, exist_ok=True)
        (self.place.disk / "ready").unlink(missing_ok=True)

    def _make_link(self) -> None:
        place, namespace = self.place, self.place.network_namespace
        run("ip", "netns", "add", namespace)
        link.connect(namespace, place.link, place.address)
        run("ip", "route", "replace", place.pods, "via", place.address)

    def _write_settings(self, taint: str) -> None:
        place = self.place
        network = place.path("/etc/cni/net.d/10-bridge.conflist")
        network.parent.mkdir(parents=True, exist_ok=True)
        network.write_text(json.dumps(_network(place)))
        place.path("/etc/containerd/config.toml").write_text(_CONTAINERD)
        (place.settings / "resolv.conf").write_text(f"nameserver {layout.HOST}\n")
        certificate, key = self._authority.issue(
            place.name, f"system:node:{place.name}", "system:nodes", (place.name, place.address)
        )
        self._authority.kubeconfig(place.settings / "kubeconfig", layout.SERVER, (certificate, key))
        kubelet = _kubelet(place, self._authority.certificate_file, certificate, key)
        if taint:
            name, _, effect = taint.rpartition(":")
            kubelet["registerWithTaints"] = [{"key": name, "effect": effect}]
        (place.settings / "kubelet.json").write_text(json.dumps(kubelet))
        (place.settings / "kube-proxy.json").write_text(json.dumps(_proxy(place)))

    def _trust_registries(self) -> None:
        """Let containerd use plain http for the testbed's registries. Existing files stay, with a test's changes."""
        for registry in layout.REGISTRY_ADDRESSES:
            hosts = self.place.path(f"/etc/containerd/certs.d/{registry}/hosts.toml")
            if not hosts.exists():
                hosts.parent.mkdir(parents=True, exist_ok=True)
                hosts.write_text(_HOSTS.format(registry=registry))

    def _enter_namespaces(self) -> None:
        self._daemons.start(
            self._names[3],
            [
                "nsenter", f"--net=/run/netns/{self.place.network_namespace}",
                "unshare", "--mount", "--propagation", "private",
                "sh", "-c", _ENTER, "node", str(self.place.disk), str(layout.HOSTS), *layout.OWN,
            ],
        )  # fmt: skip
        ready = self.place.disk / "ready"
        self._daemons.wait(self._names[3], ready.exists, _START_SECONDS)

    def _start_containerd(self) -> None:
        name = self._names[2]
        self._daemons.start(name, self.command("containerd"))
        self._daemons.wait(name, lambda: "Server:" in self.run("ctr", "version", check=False), _START_SECONDS)
        archive = str(layout.STATE / "pause.tar")
        self.run("ctr", "--namespace=k8s.io", "images", "import", f"--index-name={layout.PAUSE_IMAGE}", archive)

    def _start_kubernetes(self) -> None:
        settings = self.place.settings
        self._daemons.start(
            self._names[1],
            self.command(
                str(self._programs["kubelet"]), f"--config={settings / 'kubelet.json'}",
                f"--kubeconfig={settings / 'kubeconfig'}", f"--hostname-override={self.place.name}",
                f"--node-ip={self.place.address}",
            ),
        )  # fmt: skip
        proxy = self.command(str(self._programs["kube-proxy"]), f"--config={settings / 'kube-proxy.json'}")
        self._daemons.start(self._names[0], proxy)

    def _processes(self) -> list[int]:
        """The IDs of all processes in the node's network namespace, even of unrecorded ones."""
        try:
            namespace = Path("/run/netns", self.place.network_namespace).stat().st_ino
        except FileNotFoundError:
            return []
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "ns" / "net").stat().st_ino == namespace:
                    found.append(int(process.name))
        return found


def _network(place: NodePlace) -> dict[str, object]:
    addresses = {"type": "host-local", "ranges": [[{"subnet": place.pods}]], "routes": [{"dst": layout.EVERYWHERE}]}
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipam": addresses}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": place.name, "plugins": [bridge, ports]}


def _kubelet(place: NodePlace, authority: Path, certificate: Path, key: Path) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(certificate),
        "tlsPrivateKeyFile": str(key),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{place.network_namespace}",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "failSwapOn": False,
        "failCgroupV1": False,
        "clusterDNS": [layout.DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "resolvConf": str(place.settings / "resolv.conf"),
        "nodeStatusUpdateFrequency": "4s",
        "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
    }


def _proxy(place: NodePlace) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(layout.KUBECONFIG)},
        "mode": "iptables",
        "clusterCIDR": layout.POD_NETWORK,
        "hostnameOverride": place.name,
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
