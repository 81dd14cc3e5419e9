"""What the testbed may expect of its API server, and how the server ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from testbed.apiserver import ControlPlane

pytestmark = [pytest.mark.controlplane, pytest.mark.timeout(180)]


def test_an_outage_loses_nothing(control_plane: ControlPlane) -> None:
    """The API server comes back at the same address with the same objects."""
    control_plane.kubectl("create", "configmap", "kept")
    server = control_plane.server

    control_plane.stop_apiserver()
    with pytest.raises(subprocess.CalledProcessError):
        control_plane.kubectl("get", "configmap", "kept", "--request-timeout=2s")
    control_plane.start_apiserver()

    assert server == control_plane.server
    assert "configmap/kept\n" == control_plane.kubectl("get", "configmap", "kept", "--output=name")


def test_tokens_can_be_had_and_checked(control_plane: ControlPlane) -> None:
    """A token of a service account for an audience of ours, and the keys that it is checked with."""
    token = control_plane.kubectl("create", "token", "default", "--audience=pantala", "--duration=600s")
    assert 3 == len(token.strip().split("."))
    assert '"kty":"RSA"' in control_plane.kubectl("get", "--raw", "/openid/v1/jwks")


def test_pods_can_be_created(control_plane: ControlPlane) -> None:
    """The default namespace has the service account that admission asks for."""
    control_plane.kubectl("run", "by-hand", "--image=none")
    assert "pod/by-hand\n" == control_plane.kubectl("get", "pod", "by-hand", "--output=name")


def test_it_dies_with_its_parent_and_cleans_up_when_asked(tmp_path: Path) -> None:
    """SIGTERM removes the folder; SIGKILL of the parent at least ends the processes."""
    folder, children = _run_and_end(tmp_path, signal.SIGTERM)
    assert not folder.exists()
    assert [] == _alive(children)

    _, children = _run_and_end(tmp_path, signal.SIGKILL)
    assert [] == _alive(children)


def _run_and_end(tmp_path: Path, how: signal.Signals) -> tuple[Path, list[int]]:
    command = [sys.executable, "-m", "testbed.apiserver"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        folder = Path(parent.stdout.readline().strip().partition("=")[2]).parent
        children = [int(pid) for pid in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()]
        assert 2 == len(children)
        parent.send_signal(how)
    return folder, children


def _alive(pids: list[int]) -> list[int]:
    """Those that still run, after the moment that an end takes."""
    deadline = time.monotonic() + 10
    while (left := [pid for pid in pids if _runs(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def _runs(pid: int) -> bool:
    try:
        return "Z" != Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
