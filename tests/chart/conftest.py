"""The chart, rendered by a real Helm."""

import functools
import subprocess

import pytest
import yaml

from testbed.binaries import assets
from tests.chart.rendered import CHART, Helm, Render, Rendered


@pytest.fixture(scope="session")
def helm() -> Helm:
    """Runs Helm. The caller checks the exit status."""
    program = str(assets(["helm"])["helm"])

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=120)

    return run


@pytest.fixture(scope="session")
def render(helm: Helm) -> Render:
    """Renders the chart. Each value has the form of ``--set-json``."""

    @functools.cache
    def text(*arguments: str) -> str:
        result = helm("template", *arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def run(*values: str, release: str = "pantala", namespace: str = "pantala-system") -> Rendered:
        settings = [word for value in values for word in ("--set-json", value)]
        rendered = text(release, str(CHART), "--namespace", namespace, *settings)
        return Rendered(each for each in yaml.load_all(rendered, yaml.CSafeLoader) if each)

    return run
