"""What Pantala is built from is fixed by digests, and the workflows look for known weaknesses."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from release.__main__ import base

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yaml"))


def steps(workflow: Path) -> list[dict[str, Any]]:
    jobs = yaml.load(workflow.read_text(), yaml.CSafeLoader)["jobs"].values()
    return [step for job in jobs for step in job["steps"]]


def test_low_each_image_has_a_base_with_a_digest() -> None:
    assert re.fullmatch(r"docker\.io/library/python:3\.11-slim@sha256:[0-9a-f]{64}", base())
    froms = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    assert {"${BASE}"} == set(froms) - stages


def test_low_each_package_of_an_image_is_installed_by_its_hash() -> None:
    installs = re.findall(r"pip\S* .*install (.*)", (ROOT / "Dockerfile").read_text())
    assert 7 < len(installs)
    assert [] == [each for each in installs if "--require-hashes" not in each and "--no-index" not in each]


def test_low_the_workflows_look_for_vulnerabilities_unsafe_calls_and_secrets() -> None:
    commands = {step["run"].strip() for step in steps(ROOT / ".github/workflows/security.yaml") if "run" in step}
    assert {"make audit", "make audit-dependencies", ".venv/bin/python -m release files"} <= commands
    makefile = (ROOT / "Makefile").read_text()
    for tool in ("bandit", "detect-secrets-hook", "pip-audit"):
        assert f"$(VENV)-audit/bin/{tool} " in makefile
    release = (ROOT / ".github/workflows/release.yaml").read_text()
    assert "cosign sign" in release
    assert "cosign attest" in release


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_only_read_unless_a_job_says_more(workflow: Path) -> None:
    assert {"contents": "read"} == yaml.load(workflow.read_text(), yaml.CSafeLoader)["permissions"]
    checkouts = [step for step in steps(workflow) if step.get("uses", "").startswith("actions/checkout")]
    assert {False} == {step["with"]["persist-credentials"] for step in checkouts}
