"""``python3 -m pantala_operator.hooks.trial``: brings a file and an image to all nodes, run by ``helm test``.

The pod serves the file itself, so the trial needs no other server. It deletes its resources in any case.
"""

import argparse
import asyncio
import hashlib
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from pantala_operator.errors import ClusterError, ClusterNotFoundError
from pantala_operator.resources.api import API_VERSION
from pantala_process.listening import listening
from pantala_process.settings import ListenAddress

_TIMEOUT = 10.0
_INTERVAL = 0.5
_SIZE = 1024 * 1024
_BAD = ("Stalled", "Reconciling")
"""The conditions that should be False."""


class TrialError(Exception):
    """The trial did not succeed. The message says why."""


class TrialObject(NamedTuple):
    """A resource of the trial."""

    kind: str
    plural: str
    spec: dict[str, Any]


class _Server(ThreadingHTTPServer):
    content = b""
    reads = 0
    """How many requests read the whole file or its start."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.reads += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        """Write nothing. The output of the trial is its result."""


@contextmanager
def serving(content: bytes, port: int) -> Iterator[_Server]:
    """Serve ``content`` at every path and address inside the block."""
    with listening(ListenAddress("", port)) as [opened], _Server(("", 0), _Handler, bind_and_activate=False) as server:
        server.socket.close()
        server.socket, server.server_port, server.content = opened, opened.getsockname()[1], content
        server.server_activate()
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()


def task(url: str, content: bytes) -> TrialObject:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return TrialObject("Task", "tasks", {"source": {"url": url}, "digest": digest})


def prefetch(image: str, secrets: Sequence[str]) -> TrialObject:
    spec: dict[str, Any] = {"images": [{"image": image}]}
    return TrialObject("ImagePrefetch", "imageprefetches", spec | ({"pullSecrets": list(secrets)} if secrets else {}))


class Trial:
    """Creates resources in one namespace, and waits until they are Ready."""

    def __init__(self, request: Callable[..., Awaitable[Any]], namespace: str, name: str, seconds: float) -> None:
        """``request``: see :meth:`pantala_operator.adapters.kubernetes.KubernetesCluster.request`."""
        self._request = request
        self._base = f"/apis/{API_VERSION}/namespaces/{namespace}"
        self._name = name
        self._seconds = seconds

    async def run(self, wanted: TrialObject) -> str:
        """Create the resource, and delete it when it is Ready. Returns what its condition says.

        Raises :class:`TrialError` if it is not Ready in time.
        """
        await self._delete(wanted)
        metadata = {"name": self._name}
        body = {"apiVersion": API_VERSION, "kind": wanted.kind, "metadata": metadata, "spec": wanted.spec}
        await self._request("post", f"{self._base}/{wanted.plural}", body=body)
        try:
            return await self._ready(wanted)
        finally:
            await self._delete(wanted)

    async def _ready(self, wanted: TrialObject) -> str:
        end = time.monotonic() + self._seconds
        found: list[Any] = []
        while time.monotonic() < end:
            body = await self._request("get", f"{self._base}/{wanted.plural}/{self._name}")
            found = body.get("status", {}).get("conditions", [])
            for each in found:
                if (each["type"], each["status"]) == ("Ready", "True"):
                    return f"{wanted.kind}: {each['reason']}: {each['message']}"
            await asyncio.sleep(_INTERVAL)
        texts = {
            f"{each['reason']}: {each['message']}" for each in found if each["status"] != "True" or each["type"] in _BAD
        }
        raise TrialError(
            f"The {wanted.kind} {self._name} is not Ready after {self._seconds:.0f} s. "
            f"{' '.join(sorted(texts)) or 'No operator has written its status. See the log of the operator.'}"
        )

    async def _delete(self, wanted: TrialObject) -> None:
        with suppress(ClusterNotFoundError):
            await self._request("delete", f"{self._base}/{wanted.plural}/{self._name}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command. The exit code is 2 for invalid flags, 1 for a failure, else 0."""
    parser = argparse.ArgumentParser(
        prog="pantala_operator.hooks.trial", description="Brings a file and an image to all nodes."
    )
    parser.add_argument("--namespace", required=True, help="the namespace of the resources")
    parser.add_argument("--name", required=True, help="the name of the resources")
    parser.add_argument("--url", required=True, help="the URL by which the supernodes reach this pod")
    parser.add_argument("--port", type=int, default=8090, help="the port of that URL in this pod (8090)")
    parser.add_argument("--image", default="", help="an image to bring to all nodes (default: none)")
    parser.add_argument("--pull-secret", action="append", default=[], help="a pull secret for the image")
    parser.add_argument("--seconds", type=float, default=120.0, help="the time for the file, and for the image (120)")
    given = parser.parse_args(arguments)
    try:
        for line in asyncio.run(_run(given)):
            print(line)
    except (ClusterError, TrialError) as error:
        print(error)
        sys.exit(1)
    except asyncio.CancelledError:
        print("The trial was stopped before its end. Its resources are deleted.")
        sys.exit(1)


async def _run(given: argparse.Namespace) -> list[str]:
    from pantala_operator.adapters import kubernetes  # a slow import, which invalid flags do not need

    if running := asyncio.current_task():
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    content = os.urandom(_SIZE)
    async with await kubernetes.connect("", _TIMEOUT) as cluster:
        trial = Trial(cluster.request, given.namespace, given.name, given.seconds)
        with serving(content, given.port) as server:
            lines = [await trial.run(task(given.url, content))]
            if not server.reads:
                raise TrialError("The Task is Ready, but no supernode has read the file from this pod")
        if given.image:
            lines.append(await trial.run(prefetch(given.image, given.pull_secret)))
        return lines


if __name__ == "__main__":
    main()
