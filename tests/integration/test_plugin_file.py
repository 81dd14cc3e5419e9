"""``kubectl pantala`` as one file: it is built from the lock, and runs as the user's python3 runs it."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from pantala_protocol import __version__
from release import onefile, plugin
from release.command import ROOT


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of ``make plugin``. pip downloads the wheels of the lock, or has them in its cache."""
    return plugin.here(tmp_path_factory.mktemp("plugin"))


def run(file: Path, cache: Path, *arguments: str) -> str:
    """Run the file with this Python, and without any installed package."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(file), *arguments], capture_output=True, text=True, check=False, timeout=60,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "XDG_CACHE_HOME": str(cache)},
    )  # fmt: skip
    assert 0 == done.returncode, done
    return done.stdout


def test_the_file_runs_alone_and_unpacks_once(built: Path, tmp_path: Path) -> None:
    assert f"kubectl-pantala {__version__}\n" == run(built, tmp_path, "version", "--client")
    [folder] = (tmp_path / "pantala").iterdir()
    before = folder.stat().st_mtime_ns
    assert "doctor" in run(built, tmp_path, "--help")
    assert [(folder, before)] == [(each, each.stat().st_mtime_ns) for each in (tmp_path / "pantala").iterdir()]
    completed = run(built.with_name("kubectl_complete-pantala"), tmp_path, "get", "")
    assert ["tasks", "images", "peers", "tasks,images", ":4"] == completed.splitlines()


def test_an_archive_for_krew_has_the_file_and_fits_its_manifest(built: Path, tmp_path: Path) -> None:
    """The archive of another platform is made in the same way, so this one only has this machine's wheels."""
    archive = tmp_path / "kubectl-pantala-linux-amd64.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(built, plugin.NAME)
        packed.add(ROOT / "LICENSE", "LICENSE")
    shown = yaml.safe_load(yaml.safe_dump(plugin.manifest({plugin.MACHINES[0]: archive})))
    [entry] = shown["spec"]["platforms"]
    assert ("pantala", f"v{__version__}") == (shown["metadata"]["name"], shown["spec"]["version"])
    with tarfile.open(archive) as packed:
        assert {each["from"] for each in entry["files"]} <= set(packed.getnames())
        packed.extract(entry["bin"], tmp_path, filter="data")
    assert f"kubectl-pantala {__version__}\n" == run(tmp_path / entry["bin"], tmp_path / "cache", "version", "--client")


def test_the_index_names_what_the_file_is_for(built: Path) -> None:
    with zipfile.ZipFile(built) as file:
        index = json.loads(file.read(onefile.INDEX))
    here = (os.uname().sysname, os.uname().machine)
    assert "" == onefile.unfit(index, here, sys.version_info[:2])
    assert "This file needs Python" in onefile.unfit(index, here, (3, 9))
    assert "This file is for" in onefile.unfit(index, ("Plan9", "mips"), sys.version_info[:2])


def test_the_wheel_for_this_python_is_chosen() -> None:
    names = [
        "wheels/a-1.0-py3-none-any.whl",
        "wheels/a-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "wheels/a-1.0-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "wheels/b-2-py2.py3-none-any.whl",
        "wheels/c_d-1-cp39-abi3-manylinux_2_28_x86_64.whl",
        "wheels/e-1-cp312-cp312-linux_x86_64.whl",
    ]
    assert [names[1], names[3], names[4]] == onefile.chosen(names, "cp311")
    assert [names[0], names[3], names[4]] == onefile.chosen(names, "cp313")
