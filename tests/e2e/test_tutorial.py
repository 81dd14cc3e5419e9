"""The lines of docs/tutorial.md work on the real cluster, and print what the page shows."""

import os
import subprocess
from pathlib import Path

import pytest

from handbook.lines import steps
from testbed.cluster import Cluster
from tests.e2e.release import Release

ROOT = Path(__file__).resolve().parents[2]
_END = "--- end of step"


@pytest.mark.usefixtures("release")
def test_the_lines_of_the_tutorial(cluster: Cluster, release: Release, tmp_path: Path) -> None:
    """All steps share one shell, as a reader's terminal. It stops at the first command that fails."""
    tutorial = steps((ROOT / "docs" / "tutorial.md").read_text())
    assert len(tutorial) >= 7
    script = "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n" + "".join(
        f"{step.commands}\necho '{_END}'\n" for step in tutorial
    )
    output = tmp_path / "output"
    try:
        with output.open("wb") as file:
            done = subprocess.run(
                ["bash", "-c", script],
                cwd=ROOT,
                env={**os.environ, "MAKEFLAGS": "", "PYTHONDONTWRITEBYTECODE": "1"},
                stdout=file,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=240,
            )
    finally:
        cluster.kubectl("delete", "namespace", "tutorial", "--ignore-not-found", "--wait=false")
    text = output.read_text()
    assert 0 == done.returncode, text
    printed = text.split(f"{_END}\n")
    missing = [step.missing(lines) for step, lines in zip(tutorial, printed, strict=False)]
    assert [None] * len(tutorial) == missing, text
    release.wait_ready()
