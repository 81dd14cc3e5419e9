"""What registries of charts show: the annotations for Artifact Hub, and the README."""

import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts import generate, hub
from pantala_protocol import __version__
from tests.chart.rendered import CHART, Helm

ROOT = CHART.parents[1]
CHART_FILE: dict[str, Any] = yaml.safe_load((CHART / "Chart.yaml").read_text())
FOUND = {name.partition("/")[2]: value for name, value in CHART_FILE["annotations"].items()}


def test_the_annotations_list_all_kinds_with_an_example_of_each_that_users_create() -> None:
    kinds = {path.stem.partition("_")[2]: yaml.safe_load(path.read_text()) for path in (ROOT / "crds").glob("*.yaml")}
    listed = {each["name"].partition(".")[0]: each for each in yaml.safe_load(FOUND["crds"])}
    assert kinds.keys() == listed.keys()
    for plural, crd in kinds.items():
        assert crd["spec"]["names"]["kind"] == listed[plural]["kind"]
        assert listed[plural]["description"]
    examples = [each["kind"] for each in yaml.safe_load(FOUND["crdsExamples"])]
    assert ["ImagePrefetch", "SourcePolicy", "Task"] == examples


def test_the_annotations_list_the_images_of_this_version() -> None:
    images = {each["name"]: each["image"] for each in yaml.safe_load(FOUND["images"])}
    names = ("operator", "supernode", "peer", "runtime")
    assert {name: f"pantala/{name}:{__version__}" for name in names} == images


@pytest.mark.parametrize(
    "name", ["category", "license", "operator", "operatorCapabilities", "prerelease", "containsSecurityUpdates"]
)
def test_each_plain_annotation_is_a_text(name: str) -> None:
    assert isinstance(FOUND[name], str)
    assert FOUND[name]


def test_the_annotations_replace_those_of_the_version_before() -> None:
    text = (CHART / "Chart.yaml").read_text()
    head, _, _ = text.partition("annotations:\n")
    again = hub.filled(f"{head}annotations:\n  old: text\n", ROOT / "crds", CHART / "values.yaml")
    assert text == again


def test_the_readme_names_all_values_and_values_files() -> None:
    page = (CHART / "README.md").read_text()
    assert page == generate.outputs()[CHART / "README.md"]
    values = re.findall(r"^\| `([\w.]+)` \| `", page, re.MULTILINE)
    assert re.findall(r"^\| `([\w.]+)` \| `", (ROOT / "docs/reference/values.md").read_text(), re.MULTILINE) == values
    assert 100 < len(values)
    for link in re.findall(r"\]\(([^)]+)\)", page.partition("## Values")[0]):
        assert (CHART / link).exists(), link
    assert {f"values/{path.name}" for path in (CHART / "values").glob("*.yaml")} <= set(re.findall(r"`([^`]+)`", page))


def test_the_values_files_are_in_the_package(helm: Helm, tmp_path: Path) -> None:
    done = helm("package", str(CHART), "--destination", str(tmp_path))
    assert 0 == done.returncode, done.stderr
    (package,) = tmp_path.glob("*.tgz")
    shown = helm("show", "readme", str(package))
    assert "# The chart of Pantala" in shown.stdout
    with tarfile.open(package) as archive:
        names = set(archive.getnames())
    assert {f"pantala/values/{path.name}" for path in (CHART / "values").glob("*.yaml")} <= names
    assert not [name for name in names if name.endswith(".py")]
