"""The chart and the images of the version before, from the history of the repository."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from testbed.cluster import Cluster
from testbed.cluster.images import build, exists
from testbed.cluster.installation import COMPONENTS

COMMIT = "a99cf96cc499d27113a7b850f92bb040469a534c"
"""The last commit before the chart got hooks for volumes and tests."""
_PROJECT = Path(__file__).resolve().parents[2]
_SINCE = ("--set=monitoring.",)
"""Values that this version does not have."""


class Former(NamedTuple):
    """An installation of that version."""

    chart: Path

    def values(self, now: Sequence[str]) -> list[str]:
        """Helm's flags of today, without later values and with the images of that version."""
        known = [flag for flag in now if not flag.startswith(_SINCE)]
        repositories = (f"--set={name}.image.repository={_image(name).partition(':')[0]}" for name in COMPONENTS)
        tags = (f"--set-string={name}.image.tag={_image(name).partition(':')[2]}" for name in COMPONENTS)
        return [*known, *repositories, *tags]


def unpack(cluster: Cluster, folder: Path) -> Former:
    """Unpack that version below ``folder``, and push its images."""
    git = ("git", "-C", str(_PROJECT))
    if subprocess.run([*git, "cat-file", "-e", COMMIT], capture_output=True, check=False).returncode:
        pytest.skip(f"the history has no commit {COMMIT[:8]}: run git fetch --unshallow")
    archive = subprocess.run([*git, "archive", COMMIT], capture_output=True, check=True).stdout
    subprocess.run(["tar", "--extract", "--directory", str(folder)], input=archive, check=True)
    for component in COMPONENTS:
        if not exists(_image(component)):
            build(folder, component, _image(component))
        cluster.push(_image(component))
    return Former(folder / "charts" / "pantala")


def _image(component: str) -> str:
    return f"pantala-former/{component}:{COMMIT[:12]}"
