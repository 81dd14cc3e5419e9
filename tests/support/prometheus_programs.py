"""Prometheus' programs for tests. Without root, no test downloads them, and a test that needs them is skipped."""

import os
from pathlib import Path

import pytest

from testbed import prometheus


def needed(name: str) -> Path:
    """The path of ``prometheus`` or ``promtool``."""
    if os.geteuid() != 0 and not prometheus.installed(name):
        pytest.skip(f"{name} is missing: install Debian's package prometheus, or run make machine as root")
    return prometheus.program(name)
