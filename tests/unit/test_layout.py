"""The tree keeps its promises."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_folder_operator_does_not_shadow_the_standard_library() -> None:
    """With an __init__.py in operator/, a run from the root would break ``import collections``."""
    assert not (ROOT / "operator" / "__init__.py").exists()
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import collections"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (0, "") == (done.returncode, done.stderr)


def test_modules_stay_small() -> None:
    """A module is one noun; past 350 lines it is two."""
    long = {
        str(path.relative_to(ROOT)): count
        for folder in ("protocol", "pieces", "supernode", "peer", "operator", "cli")
        for path in (ROOT / folder).rglob("*.py")
        if (count := len(path.read_text().splitlines())) > 350
    }
    assert {} == long


def test_locks_name_no_index() -> None:
    """A lock is good for whatever index a machine uses."""
    for lock in (ROOT / "requirements").glob("*.txt"):
        assert "://" not in lock.read_text(), lock.name
