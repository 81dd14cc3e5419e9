"""The cluster of the user's kubeconfig, with the chart installed. The demo adds one Task and removes it again."""

import json
import os
import re
import secrets
import socket
import subprocess
from collections.abc import Callable
from ipaddress import ip_network
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from demo.errors import DemoError
from demo.place import Place
from testbed.binaries import BuildError, assets

_TIMEOUT = 60.0
_LOG = re.compile(r"[EWI][0-9]{4} [0-9:.]+ ")
"""The beginning of a line that kubectl logs beside its error."""


class RemotePlace(Place):
    """The cluster of the user's kubeconfig, with Pantala installed."""

    title = "The cluster of your kubeconfig"

    def __init__(self, origin_host: str, say: Callable[[str], None]) -> None:
        self.origin_host = origin_host
        self.task_name = f"pantala-demo-{secrets.token_hex(3)}"
        self._say = say
        self._program = "kubectl"

    def __enter__(self) -> Self:
        try:
            self._program = str(assets(["kubectl"])["kubectl"])
        except BuildError as error:
            raise DemoError(str(error)) from error
        try:
            peers = json.loads(self.kubectl("get", "peers.pantala.dev", "-o", "json"))["items"]
        except DemoError as error:
            raise DemoError(
                f"{error}\nCheck with kubectl get peers that your kubeconfig names a cluster with Pantala."
            ) from None
        ready = sum(
            each["type"] == "Ready" and each["status"] == "True"
            for peer in peers
            for each in peer.get("status", {}).get("conditions", ())
        )
        if not ready:
            raise DemoError("No Peer is Ready in this cluster. Install the chart first (see README.md).")
        self.origin_host = self.origin_host or self._own_address()
        self._say(f"{ready} Peers are Ready. The origin is this machine, at {self.origin_host}")
        self._allow_origin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kubectl("delete", "task", self.task_name, "-n", "default", "--ignore-not-found")
        self.kubectl("delete", "sourcepolicy", self.task_name, "--ignore-not-found")

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """Run kubectl as the user."""
        command = [self._program, *arguments]
        try:
            result = subprocess.run(
                command, input=text, capture_output=True, text=True, check=False, timeout=_TIMEOUT, env=os.environ
            )
        except subprocess.TimeoutExpired:
            raise DemoError(f"kubectl {arguments[0]} did not end within {_TIMEOUT:.0f} s") from None
        if result.returncode:
            raise DemoError(f"kubectl {arguments[0]} failed: {reason(result.stderr)}")
        return result.stdout

    def _allow_origin(self) -> None:
        """Create a SourcePolicy, because the supernodes read no internal address without one."""
        try:
            spec = {"cidrs": [str(ip_network(self.origin_host))]}
        except ValueError:
            spec = {"hosts": [self.origin_host.lower()]}
        policy = {"apiVersion": "pantala.dev/v1alpha1", "kind": "SourcePolicy", "metadata": {"name": self.task_name}}
        self.kubectl("create", "-f", "-", text=json.dumps({**policy, "spec": spec}))
        self._say(f"the SourcePolicy {self.task_name} allows this address until the demo ends")

    def _own_address(self) -> str:
        """This machine's source address for the API server, at which nodes can usually reach the machine."""
        server = json.loads(self.kubectl("config", "view", "--minify", "-o", "json"))["clusters"][0]["cluster"][
            "server"
        ]
        parts = urlsplit(server)
        try:
            family, kind, *_, address = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_DGRAM)[0]
            with socket.socket(family, kind) as probe:
                probe.connect(address)
                own = str(probe.getsockname()[0])
        except OSError as error:
            raise DemoError(f"{server} cannot be reached: {error}. Set --origin-host.") from error
        if own.startswith("127.") or own == "::1":
            raise DemoError(
                "The API server is on loopback, so this machine's address for nodes is not known. Set --origin-host."
            )
        return own


def reason(stderr: str) -> str:
    """The error of kubectl, without the lines that it logs for each of its attempts."""
    lines = [line for line in stderr.splitlines() if line.strip() and not _LOG.match(line)]
    return "\n".join(lines) or stderr.strip()
