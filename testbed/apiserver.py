"""Runs a real etcd and kube-apiserver on loopback, for tests and the demo. It needs no root and leaves nothing behind.

    with ControlPlane() as control_plane:
        control_plane.kubectl("apply", "-f", "crds/")

No controller manager runs. So the deletion of a namespace never ends, owner references collect no garbage, Deployments
make no pods, and aggregated ClusterRoles stay empty. Tests create nodes and pods themselves.
"""

import argparse
import contextlib
import http.client
import json
import shutil
import signal
import ssl
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Self

from testbed.binaries import assets
from testbed.pki import Authority
from testbed.process import Process, free_ports

ISSUER = "https://kubernetes.default.svc"
"""The issuer of the service account tokens; their keys are at the server's ``/openid/v1/jwks``."""

_AUDIT = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    verbs: [create, update, patch, delete]
  - level: None
"""
_READY_SECONDS = 60.0
_GRACE = 1.0
"""Seconds after which etcd is killed, which loses no write. The API server ends slowly, so it is killed at once."""


class ControlPlaneError(RuntimeError):
    """etcd or kube-apiserver did not start. The message contains the end of its log."""


class ControlPlane:
    """etcd and kube-apiserver. They end with the thread that starts them."""

    def __init__(self, directory: Path | None = None, *, audit: bool = False) -> None:
        """``audit``: record all writes, for :meth:`writes`."""
        self._audit = audit
        self._programs: dict[str, Path] = {}
        self._temporary = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="pantala-control-plane-"))
        self._etcd: Process | None = None
        self._apiserver: Process | None = None
        self._etcd_port, self._peer_port, self.port = free_ports(3)
        self._arguments: list[str] = []

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig of an administrator."""
        return self.directory / "admin.kubeconfig"

    @property
    def certificate_authority(self) -> Path:
        """The certificate of the authority that signs the server's certificate."""
        return self.directory / "pki" / "ca.crt"

    def start(self) -> None:
        """Start both programs. Returns when the API server is ready (some 3 s). Raises :class:`ControlPlaneError`."""
        self._programs = assets(["etcd", "kube-apiserver", "kubectl"])
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            self._start_etcd()
            self._prepare()
            self.start_apiserver()
            self._complete()
        except OSError as error:
            self.stop()
            raise ControlPlaneError(
                f"The control plane cannot use {self.directory}: {error.strerror or error}{self._room()}"
            ) from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop etcd and the API server, and remove the temporary directory."""
        self.stop_apiserver()
        if self._etcd is not None:
            self._etcd.stop(_GRACE)
            self._etcd = None
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def start_apiserver(self) -> None:
        """Start the API server with the same port and objects as before. Returns when it is ready."""
        self._apiserver = Process(self._arguments, self.directory / "kube-apiserver.log")
        self._wait_ready(self._apiserver)

    def stop_apiserver(self) -> None:
        """Stop the API server, as in an outage: connections break, and new connections are refused."""
        if self._apiserver is not None:
            self._apiserver.kill()
            self._apiserver = None

    def kubectl(self, *arguments: str, text: str | None = None, check: bool = True) -> str:
        """Run kubectl as the administrator, with ``text`` as its standard input, and return its output.

        Raises :class:`subprocess.CalledProcessError` (with ``stderr``) unless ``check`` is false.
        """
        command = [str(self._programs["kubectl"]), "--kubeconfig", str(self.kubeconfig), *arguments]
        result = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=180)
        if check and result.returncode:
            error = subprocess.CalledProcessError(result.returncode, command, result.stdout, result.stderr)
            error.add_note(result.stderr.strip())
            raise error
        return result.stdout

    def user(self, name: str) -> Path:
        """The kubeconfig of another administrator, so that the audit log names the author of each write."""
        credentials = self._authority.issue(name, name, "system:masters")
        path: Path = self.directory / f"{name}.kubeconfig"
        self._authority.kubeconfig(path, self.server, credentials)
        return path

    def writes(self, user: str) -> list[dict[str, Any]]:
        """All writes of a user so far, as audit events, oldest first."""
        lines = (self.directory / "audit.log").read_text().splitlines()
        events = [json.loads(line) for line in lines if f'"{user}"' in line]
        return [event for event in events if event["user"]["username"] == user]

    def _start_etcd(self) -> None:
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{self._peer_port}"
        self._etcd = Process(
            [
                str(self._programs["etcd"]), f"--data-dir={self.directory / 'etcd'}", "--unsafe-no-fsync",
                f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}", "--log-level=warn",
            ],
            self.directory / "etcd.log",
        )  # fmt: skip

    def _prepare(self) -> None:
        authority = self._authority = Authority(self.directory / "pki")
        names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", "127.0.0.1", "10.0.0.1"]
        certificate, key = authority.issue("apiserver", "kube-apiserver", names=names)
        authority.kubeconfig(self.kubeconfig, self.server, authority.issue("admin", "admin", "system:masters"))
        tokens = authority.token_key()
        self._arguments = [
            str(self._programs["kube-apiserver"]), f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1", f"--secure-port={self.port}", "--advertise-address=127.0.0.1",
            f"--tls-cert-file={certificate}", f"--tls-private-key-file={key}",
            f"--client-ca-file={authority.certificate_file}", f"--cert-dir={self.directory / 'pki'}",
            f"--service-account-issuer={ISSUER}", f"--service-account-key-file={tokens}",
            f"--service-account-signing-key-file={tokens}", "--service-cluster-ip-range=10.0.0.0/24",
            "--authorization-mode=RBAC", "--endpoint-reconciler-type=none",
        ]  # fmt: skip
        if self._audit:
            policy = self.directory / "audit.yaml"
            policy.write_text(_AUDIT)
            log = self.directory / "audit.log"
            self._arguments += [f"--audit-policy-file={policy}", f"--audit-log-path={log}"]

    def _wait_ready(self, process: Process) -> None:
        context = ssl.create_default_context(cafile=str(self.certificate_authority))

        def ready() -> bool:
            if self._etcd is not None and self._etcd.returncode is not None:
                ended = f"etcd ended with {self._etcd.returncode}{self._room()}"
                raise ControlPlaneError(f"{ended}:\n{_last_words(self._etcd)}")
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=5, context=context)
            try:
                connection.request("GET", "/readyz")
                return connection.getresponse().status == 200
            except http.client.HTTPException:
                return False
            finally:
                connection.close()

        if not process.becomes(ready, _READY_SECONDS):
            ended = f"ended with {process.returncode}"
            how = f"is not ready after {_READY_SECONDS:.0f} s" if process.returncode is None else ended
            raise ControlPlaneError(f"kube-apiserver {how}:\n{process.tail()}")

    def _room(self) -> str:
        """The room on the disk, as the end of an error. etcd needs about 200 MiB."""
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(self.directory.parent).free
            return f"; {free >> 20} MiB are free below {self.directory.parent}"
        return ""

    def _complete(self) -> None:
        """Create what a controller manager would create, so that tests can create pods in the default namespace."""
        self.kubectl("create", "serviceaccount", "default")
        self.kubectl("create", "configmap", "kube-root-ca.crt", f"--from-file=ca.crt={self.certificate_authority}")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _last_words(process: Process) -> str:
    """The last lines of a log, without the stacks of a Go program. Such a line repeats its stack at its end."""
    lines = process.log.read_text(errors="replace").splitlines()
    end = next((number for number, line in enumerate(lines) if line.startswith("goroutine ")), len(lines))
    return "\n".join(line.partition(',"stacktrace"')[0] for line in lines[max(end - 8, 0) : end])


def main() -> int:
    """Run a control plane until Ctrl-C or SIGTERM."""
    argparse.ArgumentParser(prog="python -m testbed.apiserver", description=main.__doc__).parse_args()
    signals = {signal.SIGINT, signal.SIGTERM}
    with ControlPlane() as control_plane:
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        print(f"export KUBECONFIG={control_plane.kubeconfig}", flush=True)
        signal.sigwait(signals)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
