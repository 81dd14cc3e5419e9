"""The command that watches containerd's files."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from pantala_peer.containerd import registry
from pantala_peer.containerd.configuration import configure
from pantala_peer.containerd.watch import read_note
from tests.support.eventually import eventually_blocking

MIRROR = "http://127.0.0.1:65001"


def test_the_command_repairs_until_a_signal(tmp_path: Path) -> None:
    certs_d, state, token_file = tmp_path / "certs.d", tmp_path / "state", tmp_path / "mirror-token"
    token_file.write_text("t0ken")
    configure([certs_d], state, [registry.parse_registry("r.example")], MIRROR, "t0ken")
    hosts = certs_d / "r.example" / "hosts.toml"
    hosts.write_text('server = "https://r.example"\n')
    flags = [f"--certs-d={certs_d}", f"--containerd-state={state}", f"--mirror-token-file={token_file}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pantala_peer", "watch", *flags, "--registries=r.example"],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    try:
        eventually_blocking(lambda: read_note(token_file))
        assert MIRROR in hosts.read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        assert 0 == process.wait(10)
