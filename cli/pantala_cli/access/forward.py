"""Forwards a port of a pod to this machine with ``kubectl port-forward``, as ADR 29 explains."""

import contextlib
import re
import select
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO

from pantala_cli.errors import CLIError, ConsoleError, PermissionMissingError

_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) ->")
_SECONDS = 15.0
"""Seconds that kubectl may take until it forwards the port."""
_GRACE = 2.0


def kubectl() -> str:
    """The path of kubectl. Raises :class:`CLIError`."""
    path = shutil.which("kubectl")
    if path is None:
        raise CLIError("kubectl is not in PATH. Install it, or give the console's address with --console URL.")
    return path


@contextlib.contextmanager
def forwarded(flags: Sequence[str], namespace: str, pod: str, port: int) -> Iterator[int]:
    """Forward ``port`` of a pod's loopback address, and yield the local port. At the end, kubectl is stopped.

    ``flags`` name the kubeconfig and the context.
    """
    command = [kubectl(), *flags, "port-forward", "--address=127.0.0.1", f"--namespace={namespace}", f"pod/{pod}"]
    children: list[subprocess.Popen[bytes]] = []
    readers: list[threading.Thread] = []
    starter = ThreadPoolExecutor(1)
    try:
        # A signal interrupts the main thread only. If it started kubectl itself, it could lose the new process.
        starter.submit(lambda: children.append(_started([*command, f":{port}"]))).result()
        [child] = children
        local = _local_port(child, namespace, pod)
        for stream in (child.stdout, child.stderr):
            readers.append(threading.Thread(target=_drain, args=(stream,), daemon=True))
            readers[-1].start()
        yield local
    finally:
        starter.shutdown()
        for child in children:
            _end(child, readers)


def _started(command: list[str]) -> "subprocess.Popen[bytes]":
    """Start kubectl in a session of its own, so Ctrl-C interrupts only this program. This program then stops it."""
    return subprocess.Popen(  # noqa: S603 - kubectl, with arguments from the cluster after a fixed prefix
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def _end(child: "subprocess.Popen[bytes]", readers: Sequence[threading.Thread]) -> None:
    child.terminate()
    try:
        child.wait(_GRACE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    for reader in readers:
        reader.join(_GRACE)
    for stream in (child.stdout, child.stderr):
        if stream is not None and not any(reader.is_alive() for reader in readers):
            stream.close()


def _drain(stream: IO[bytes]) -> None:
    """Read all. kubectl writes a line for each connection, and would stop when the pipe is full."""
    while stream.read1(65536):  # type: ignore[attr-defined] # a BufferedReader, as no text mode is on
        pass


def _local_port(child: "subprocess.Popen[bytes]", namespace: str, pod: str) -> int:
    """Wait for kubectl's line with the local port."""
    assert child.stdout is not None  # noqa: S101 - for mypy
    deadline, output = time.monotonic() + _SECONDS, b""
    while time.monotonic() < deadline:
        readable, _, _ = select.select([child.stdout], [], [], 0.2)
        if readable:
            chunk = child.stdout.read1(4096)  # type: ignore[attr-defined] # a BufferedReader, as no text mode is on
            output += chunk
            if found := _FORWARDING.search(output.decode(errors="replace")):
                return int(found[1])
            if not chunk:
                raise _failure(child, namespace, pod)
    raise ConsoleError(
        f"kubectl port-forward to pod {namespace}/{pod} did not start within {_SECONDS:.0f} s. "
        "Check the connection to the API server, then try again."
    )


def _failure(child: "subprocess.Popen[bytes]", namespace: str, pod: str) -> CLIError:
    assert child.stderr is not None  # noqa: S101 - for mypy
    lines = child.stderr.read().decode(errors="replace").strip().splitlines()
    message = lines[-1].removeprefix("error: ") if lines else "it ended without a message"
    if "orbidden" in message:
        return PermissionMissingError(
            f"You may not forward a port of pod {namespace}/{pod}. "
            f"Ask the cluster's administrator for create on pods/portforward in namespace {namespace}."
        )
    return ConsoleError(
        f"kubectl port-forward to pod {namespace}/{pod} failed: {message}. "
        f"Check the pod with kubectl -n {namespace} get pod {pod}."
    )
