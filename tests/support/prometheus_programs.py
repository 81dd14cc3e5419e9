"""Prometheus' programs for tests. Root always gets them; another user may lack them, and then the test is skipped."""

import os
from pathlib import Path

import pytest

from testbed import prometheus
from testbed.cluster.command import CommandError


def needed(name: str) -> Path:
    """The path of ``prometheus`` or ``promtool``."""
    try:
        return prometheus.program(name)
    except CommandError as error:
        if os.geteuid() == 0:
            raise
        pytest.skip(f"{name} is missing, and only root can install it: {error}")
