"""The hashed locks satisfy pyproject.toml, agree with each other and name no index."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
PROCESSES = ("operator", "supernode", "peer", "runtime")
LOCKS = ("dev", "build", "release", "docs", "cli", *PROCESSES)


def locked(name: str) -> dict[str, Version]:
    """Versions by project. Each has a hash."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    entries = re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)[^\n]*\\\n +--hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)
    assert len(entries) == len(re.findall(r"^[^ #\n]", text, re.MULTILINE))
    return {canonicalize_name(project): Version(version) for project, version in entries}


def wanted(name: str) -> list[Requirement]:
    if name == "build":
        return [Requirement(text) for text in PROJECT["build-system"]["requires"]]
    if name in ("release", "docs"):
        return [Requirement(text) for text in PROJECT["dependency-groups"][name]]
    extras = EXTRAS.values() if name == "dev" else [EXTRAS[name]]
    groups = PROJECT["dependency-groups"]["dev"] if name == "dev" else []
    texts = [*PROJECT["project"]["dependencies"], *groups, *(text for extra in extras for text in extra)]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_satisfies_its_requirements(name: str) -> None:
    """Run ``make locks`` if it fails."""
    versions = locked(name)
    for requirement in wanted(name):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement


@pytest.mark.parametrize("name", ["build", "cli", *PROCESSES])
def test_an_image_has_the_versions_that_the_tests_use(name: str) -> None:
    assert locked(name).items() <= locked("dev").items()


def test_the_release_tools_need_no_other_versions() -> None:
    tested = locked("dev")
    assert {} == {name: each for name, each in locked("release").items() if tested.get(name, each) != each}


@pytest.mark.parametrize("name", ["supernode", "peer", "runtime"])
def test_supernode_and_node_images_have_no_kubernetes_client(name: str) -> None:
    assert set() == {"kopf", "kubernetes", "pykube-ng"} & locked(name).keys()


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_index_and_no_folder(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert re.search(r"https?:|--index|--find-links|file:|(^|\s)/", text) is None
