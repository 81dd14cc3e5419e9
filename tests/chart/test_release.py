"""What the project publishes with the chart: versions, checksums, SBOMs and images."""

import hashlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from pantala_protocol import __version__
from release import command, files, images
from tests.chart.rendered import CHART, Render


def test_the_crds_are_those_of_the_project_and_are_kept(render: Render) -> None:
    sources = [yaml.safe_load(path.read_text()) for path in sorted((CHART.parents[1] / "crds").glob("*.yaml"))]
    expected = {each["metadata"]["name"]: each["spec"] for each in sources}
    for keep in (True, False):
        crds = render(f"crds.keep={str(keep).lower()}").of_kind("CustomResourceDefinition")
        assert expected == {name: each["spec"] for name, each in crds.items()}
        policies = {each["metadata"].get("annotations", {}).get("helm.sh/resource-policy") for each in crds.values()}
        assert {"keep" if keep else None} == policies


ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = (ROOT / ".github" / "workflows" / "release.yaml").read_text()


def test_the_version_is_written_in_one_place_only() -> None:
    """``make crds`` writes the chart's version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    chart: dict[str, Any] = yaml.safe_load((ROOT / "charts" / "pantala" / "Chart.yaml").read_text())
    assert ["version"] == project["project"]["dynamic"]
    assert "protocol/pantala_protocol/__init__.py" == project["tool"]["hatch"]["version"]["path"]
    assert (__version__, __version__) == (chart["version"], chart["appVersion"])
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("page", ["README.md", "docs/mirror.md", "docs/image-prefetch.md", "docs/dragonfly.md"])
def test_a_page_names_no_other_version(page: str) -> None:
    tags = re.findall(r"pantala/[$a-z{}]+:(\d+\.\d+\.\d+)", (ROOT / page).read_text())
    assert {__version__} >= set(tags)


def test_the_checksums_cover_all_published_files(tmp_path: Path) -> None:
    for name in ("a.whl", "b.tgz", "c.cdx.json"):
        (tmp_path / name).write_text(name)
    files.checksums(tmp_path)
    lines = (tmp_path / "SHA256SUMS").read_text().splitlines()
    assert [f"{hashlib.sha256(n.encode()).hexdigest()}  {n}" for n in ("a.whl", "b.tgz", "c.cdx.json")] == lines


def test_an_sbom_lists_all_packages_of_the_lock(tmp_path: Path) -> None:
    pytest.importorskip("cyclonedx_py", reason="requirements/release.txt is not installed")
    files.sbom(tmp_path)
    document = json.loads((tmp_path / f"pantala-peer-{__version__}.cdx.json").read_text())
    lock = re.findall(r"^([\w.-]+)==", (ROOT / "requirements" / "peer.txt").read_text(), re.MULTILINE)
    assert ("pantala-peer", __version__) == tuple(document["metadata"]["component"][k] for k in ("name", "version"))
    assert set(lock) <= {component["name"] for component in document["components"]}


def test_the_error_for_a_missing_tool_names_it_and_the_remedy() -> None:
    with pytest.raises(command.ReleaseError, match=r"^no-such-tool is not installed\. Install it\.$"):
        command.find("no-such-tool", "Install it.")


def test_images_are_joined_only_when_all_are_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_buildah", lambda *_, **__: "")
    with pytest.raises(command.ReleaseError, match=r"operator-amd64\.tar is missing"):
        images.join(tmp_path, ["amd64"], "oci:{process}:{version}")


def test_the_workflow_runs_the_steps_of_the_dry_run() -> None:
    for step in ("files", "images --arch", "join --to"):
        assert f"python -m release {step}" in WORKFLOW
    assert set(images.ARCHITECTURES) <= set(re.findall(r"amd64|arm64", WORKFLOW))
