"""The cluster's processes outside of its nodes: network, etcd, API server, controllers, scheduler, DNS, registry."""

from pathlib import Path

from testbed.cluster import layout
from testbed.cluster.command import run
from testbed.cluster.daemons import Daemons
from testbed.cluster.link import NO_DETECTION
from testbed.pki import Authority

_ETCD = "http://127.0.0.1:24379"
_ETCD_PEER = "http://127.0.0.1:24380"
_READY_SECONDS = 90.0


class ControlPlane:
    """The processes of the cluster that run outside of its nodes."""

    def __init__(self, programs: dict[str, Path], daemons: Daemons, authority: Authority) -> None:
        self._programs = programs
        self._daemons = daemons
        self._authority = authority

    def up(self) -> None:
        """Start all processes that do not run yet. Returns when the API server is ready."""
        self._network()
        if not layout.KUBECONFIG.exists():
            admin = self._authority.issue("admin", "admin", "system:masters")
            self._authority.kubeconfig(layout.KUBECONFIG, layout.SERVER, admin)
        self._start_etcd()
        self.start_apiserver()
        self._start_controllers()
        self._start_registry()
        self._start_dns()

    def start_apiserver(self) -> None:
        """Start the API server. Returns when it is ready."""
        certificate, key = self._apiserver_certificate()
        tokens = self._authority.token_key()
        admin = layout.STATE / "pki" / "admin.crt"
        self._start(
            "kube-apiserver", f"--etcd-servers={_ETCD}", f"--bind-address={layout.HOST}",
            f"--advertise-address={layout.HOST}", f"--secure-port={layout.API_PORT}",
            f"--tls-cert-file={certificate}", f"--tls-private-key-file={key}",
            f"--client-ca-file={self._authority.certificate_file}", f"--cert-dir={layout.STATE / 'pki'}",
            f"--service-account-key-file={tokens}", f"--service-account-signing-key-file={tokens}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-cluster-ip-range={layout.SERVICE_NETWORK}", "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
            f"--kubelet-client-certificate={admin}", f"--kubelet-client-key={admin.with_suffix('.key')}",
            "--kubelet-preferred-address-types=InternalIP",
        )  # fmt: skip
        self._daemons.wait(
            "kube-apiserver", lambda: self.kubectl("get", "--raw", "/readyz", check=False) == "ok", _READY_SECONDS
        )

    def stop_apiserver(self) -> None:
        """Stop the API server, as in an outage: connections break, and new connections are refused."""
        self._daemons.stop("kube-apiserver", grace=0)

    def restart_clients(self) -> None:
        """Restart the controllers and DNS, so that they use the API server at once."""
        for program in ("kube-controller-manager", "kube-scheduler", "coredns"):
            self._daemons.stop(program, grace=0)
        self._start_controllers()
        self._start_dns()

    def kubectl(self, *arguments: str, text: str | None = None, check: bool = True, timeout: float = 300.0) -> str:
        """Run kubectl as the administrator and return its output."""
        command = (str(self._programs["kubectl"]), "--kubeconfig", str(layout.KUBECONFIG), *arguments)
        return run(*command, text=text, check=check, timeout=timeout)

    def _network(self) -> None:
        if run("ip", "link", "show", layout.BRIDGE, check=False):
            return
        run("ip", "link", "add", layout.BRIDGE, "type", "bridge")
        run("ip", "address", "add", f"{layout.HOST}/{layout.PREFIX_LENGTH}", "dev", layout.BRIDGE, *NO_DETECTION)
        run("ip", "link", "set", layout.BRIDGE, "up")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")

    def _apiserver_certificate(self) -> tuple[Path, Path]:
        names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
        return self._authority.issue(
            "apiserver", "kube-apiserver", names=(*names, "localhost", layout.HOST, layout.API_SERVICE)
        )

    def _start_etcd(self) -> None:
        self._start(
            "etcd", f"--data-dir={layout.DATA / 'etcd'}", f"--listen-client-urls={_ETCD}",
            f"--advertise-client-urls={_ETCD}", f"--listen-peer-urls={_ETCD_PEER}",
            f"--initial-advertise-peer-urls={_ETCD_PEER}", f"--initial-cluster=default={_ETCD_PEER}",
            "--unsafe-no-fsync", "--log-level=warn",
        )  # fmt: skip

    def _start_controllers(self) -> None:
        kubeconfig = f"--kubeconfig={layout.KUBECONFIG}"
        tokens = self._authority.token_key()
        self._start(
            "kube-controller-manager", kubeconfig, "--leader-elect=false", "--secure-port=0",
            f"--service-account-private-key-file={tokens}", f"--root-ca-file={self._authority.certificate_file}",
            "--use-service-account-credentials",
        )  # fmt: skip
        self._start("kube-scheduler", kubeconfig, "--leader-elect=false", "--secure-port=0")

    def _start_registry(self) -> None:
        path = layout.STATE / "registry.yaml"
        path.write_text(
            "version: 0.1\nlog: {level: warn}\n"
            f"storage: {{filesystem: {{rootdirectory: {layout.DATA / 'registry'}}}, delete: {{enabled: true}}}}\n"
            f'http: {{addr: "{layout.REGISTRY_ADDRESSES[layout.REGISTRY]}"}}\n'
        )
        self._daemons.start("registry", ["docker-registry", "serve", str(path)])

    def _start_dns(self) -> None:
        """Start DNS. It answers only names of the cluster and of the testbed. All other names do not exist."""
        path = layout.STATE / "Corefile"
        layout.HOSTS.write_text(
            "127.0.0.1 localhost\n::1 localhost\n"
            + "".join(f"{address} {name}\n" for name, address in layout.NAMES.items())
        )
        zones = "cluster.local ip6.arpa" if layout.IPV6 else "cluster.local in-addr.arpa"
        path.write_text(
            f"{zones} {{\n bind {layout.HOST}\n errors\n cache 5\n"
            f" kubernetes {zones} {{\n  kubeconfig {layout.KUBECONFIG}\n }}\n}}\n"
            f"testbed {{\n bind {layout.HOST}\n errors\n hosts {layout.HOSTS}\n}}\n"
            f". {{\n bind {layout.HOST}\n errors\n template ANY ANY {{\n  rcode NXDOMAIN\n }}\n}}\n"
        )
        self._start("coredns", "-conf", str(path))

    def _start(self, program: str, *arguments: str) -> None:
        self._daemons.start(program, [str(self._programs[program]), *arguments])
