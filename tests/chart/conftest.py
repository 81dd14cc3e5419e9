"""The chart, rendered by a real Helm."""

import functools
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed.binaries import assets

Object = dict[str, Any]
CHART = Path(__file__).resolve().parents[2] / "charts" / "pantala"


@pytest.fixture(scope="session")
def helm() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Helm; its status is the caller's business."""
    program = str(assets(["helm"])["helm"])

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=120)

    return run


@pytest.fixture(scope="session")
def render(helm: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., list[Object]]:
    """Renders the chart with values as for ``--set-json``; gives the objects, hooks included."""

    @functools.cache
    def text(*arguments: str) -> str:
        result = helm("template", *arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def run(*values: str, release: str = "pantala", namespace: str = "pantala-system") -> list[Object]:
        settings = [word for value in values for word in ("--set-json", value)]
        rendered = text(release, str(CHART), "--namespace", namespace, *settings)
        return [each for each in yaml.load_all(rendered, yaml.CSafeLoader) if each]

    return run
