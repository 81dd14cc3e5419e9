"""The containerds that tests pull with, and what that needs.

Each of them: the distribution's (Debian 12's is 1.6, which heeds no pin and reads no folder unasked), 1.7, the newest
2, and those that ``PANTALA_CONTAINERD`` names, colon-separated. What does not hang on the version runs with one.
"""

import os
import shutil

import pytest

from testbed import registry
from testbed.containerd import BUILT, programs

MARKS = [
    pytest.mark.skipif(os.geteuid() != 0, reason="containerd needs root: run as root to see it pull"),
    pytest.mark.skipif(not registry.installed(), reason="install docker-registry to see containerd pull from it"),
    pytest.mark.timeout(120, func_only=True),  # those that are built take minutes, once
]

_MISSING = pytest.mark.skip(reason="containerd is not installed: apt-get install containerd")
EACH = [
    *([] if shutil.which("containerd") else [pytest.param("containerd", marks=_MISSING)]),
    *(pytest.param(path, id=path if path in BUILT else path.strip("/").replace("/", "-")) for path in programs()),
]
ONE = [programs()[0]]
"""For ``parametrize("node", ONE, ids=["one"], indirect=True)``."""
