"""The chart and the images of the version before, from the history of the repository."""

import subprocess
from pathlib import Path

import pytest

from testbed.cluster import Cluster
from testbed.cluster.images import build, exists
from testbed.cluster.installation import COMPONENTS

COMMIT = "a99cf96cc499d27113a7b850f92bb040469a534c"
"""The last commit before the chart got hooks for volumes and tests."""
_PROJECT = Path(__file__).resolve().parents[2]
_SINCE = ("--set=monitoring.",)
"""Values that this version does not have."""


def knows(flag: str) -> bool:
    """True if the chart of that version has the value of this flag."""
    return not flag.startswith(_SINCE)


def chart(cluster: Cluster, folder: Path) -> tuple[Path, list[str]]:
    """Unpack that version below ``folder``. Returns its chart, and Helm's flags for its images."""
    git = ("git", "-C", str(_PROJECT))
    if subprocess.run([*git, "cat-file", "-e", COMMIT], capture_output=True, check=False).returncode:
        pytest.skip(f"the history has no commit {COMMIT[:8]}: run git fetch --unshallow")
    archive = subprocess.run([*git, "archive", COMMIT], capture_output=True, check=True).stdout
    subprocess.run(["tar", "--extract", "--directory", str(folder)], input=archive, check=True)
    flags = []
    for component in COMPONENTS:
        image = f"pantala-former/{component}:{COMMIT[:12]}"
        if not exists(image):
            build(folder, component, image)
        cluster.push(image)
        flags += [
            f"--set={component}.image.repository=pantala-former/{component}",
            f"--set-string={component}.image.tag={COMMIT[:12]}",
        ]
    return folder / "charts" / "pantala", flags


def images_of_today() -> list[str]:
    """Helm's flags that end the use of the former images."""
    return [
        flag
        for component in COMPONENTS
        for flag in (f"--set={component}.image.repository=pantala/{component}", f"--set={component}.image.tag=")
    ]
