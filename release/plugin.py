"""Builds ``kubectl pantala`` as one file with the standard library's zipapp, and the manifest for krew.

The file has the wheels of the lock ``requirements/cli.txt``, whose hashes pip checks, and the wheel of Pantala's own
two packages. A release has a file for each platform, with the wheels for all versions of Python.
"""

import hashlib
import json
import os
import platform
import shutil
import sys
import tarfile
import tempfile
import zipapp
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from pantala_protocol import __version__
from release import onefile
from release.command import ROOT, ReleaseError, run

Python = tuple[int, int]
"""A version."""

NAME = "kubectl-pantala"
PACKAGES = {"pantala_cli": ROOT / "cli", "pantala_protocol": ROOT / "protocol"}
PYTHONS: Sequence[Python] = ((3, 11), (3, 12), (3, 13), (3, 14))
_DAY = 1577836800  # 2020-01-01: the same content gives the same file
_LOCK = ROOT / "requirements" / "cli.txt"


class Machine(NamedTuple):
    """A platform with its names for krew, for Python and for pip."""

    system: str
    architecture: str
    python: tuple[str, str]
    tags: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.system}-{self.architecture}"


def _linux(architecture: str, machine: str) -> Machine:
    tags = tuple(f"{name}_{machine}" for name in ("manylinux_2_28", "manylinux_2_17", "manylinux2014"))
    return Machine("linux", architecture, ("Linux", machine), tags)


MACHINES = (
    _linux("amd64", "x86_64"),
    _linux("arm64", "aarch64"),
    Machine("darwin", "amd64", ("Darwin", "x86_64"), ("macosx_11_0_x86_64", "macosx_10_12_x86_64")),
    Machine("darwin", "arm64", ("Darwin", "arm64"), ("macosx_11_0_arm64",)),
)


def here(out: Path) -> Path:
    """Build the file for this machine and this version of Python."""
    path = out / NAME
    _build(path, (platform.system(), platform.machine()), [(sys.version_info[0], sys.version_info[1])], [()])
    _link(out)
    return path


def every(out: Path) -> None:
    """Build the archive of each platform, and the manifest for krew."""
    archives = {machine: archive(out, machine) for machine in MACHINES}
    (out / "pantala.yaml").write_text(yaml.safe_dump(manifest(archives), sort_keys=False, width=100))


def archive(out: Path, machine: Machine, pythons: Sequence[Python] = PYTHONS) -> Path:
    """Build one platform's file, and pack it with the licence, as krew needs it."""
    path = out / f"{NAME}-{machine}.tar.gz"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / NAME
        _build(file, machine.python, pythons, [_pip_flags(machine, each) for each in pythons])
        with tarfile.open(path, "w:gz") as packed:
            packed.add(file, NAME)
            packed.add(ROOT / "LICENSE", "LICENSE")
    return path


def manifest(archives: dict[Machine, Path]) -> dict[str, object]:
    """The plugin's entry in krew's index."""
    repository = os.environ.get("GITHUB_REPOSITORY")
    pages = f"https://github.com/{repository}" if repository else ""
    platforms = [
        {
            "selector": {"matchLabels": {"os": machine.system, "arch": machine.architecture}},
            "uri": f"{pages}/releases/download/v{__version__}/{path.name}" if pages else path.resolve().as_uri(),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "files": [{"from": NAME, "to": "."}, {"from": "LICENSE", "to": "."}],
            "bin": NAME,
        }
        for machine, path in archives.items()
    ]
    return {
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": "pantala"},
        "spec": {
            "version": f"v{__version__}",
            "homepage": pages or "https://krew.sigs.k8s.io",
            "shortDescription": "Show and control file and image distribution",
            "description": (
                "Shows the progress of Pantala, which distributes files and container images to nodes.\n"
                "Explains why a Task is not done, checks the installation, and controls Tasks.\n"
            ),
            "caveats": "The plugin needs Python 3.11 or newer as python3.\n",
            "platforms": platforms,
        },
    }


def _build(path: Path, machine: tuple[str, str], pythons: Sequence[Python], flags: Sequence[tuple[str, ...]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheels = folder / "wheels"
        for each in flags:
            run(
                sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--require-hashes",
                "--only-binary=:all:", "--no-deps", "--dest", str(wheels), "--requirement", str(_LOCK), *each,
            )  # fmt: skip
        own_wheel(wheels)
        shutil.copyfile(onefile.__file__, folder / "__main__.py")
        index = {"digest": _digest(folder), "machine": list(machine), "pythons": [list(each) for each in pythons]}
        (folder / onefile.INDEX).write_text(json.dumps(index))
        for file in folder.rglob("*"):
            os.utime(file, (_DAY, _DAY))
        zipapp.create_archive(folder, path, interpreter="/usr/bin/env python3")
    path.chmod(0o755)
    if not zipfile.is_zipfile(path):
        raise ReleaseError(f"zipapp wrote no archive to {path}. Look at its folder.")


def own_wheel(folder: Path) -> Path:
    """Write a wheel of the two packages of the plugin. It is only unpacked, so it has no metadata."""
    path = folder / f"pantala-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for package, root in PACKAGES.items():
            for file in sorted((root / package).rglob("*.py")):
                entry = zipfile.ZipInfo(str(file.relative_to(root)), (2020, 1, 1, 0, 0, 0))
                entry.external_attr = 0o644 << 16
                wheel.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
    return path


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            digest.update(f"{file.relative_to(folder)}\n".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _pip_flags(machine: Machine, python: Python) -> tuple[str, ...]:
    major, minor = python
    tags = [word for tag in machine.tags for word in ("--platform", tag)]
    return (*tags, "--python-version", f"{major}.{minor}", "--implementation", "cp", "--abi", f"cp{major}{minor}",
            "--abi", "abi3", "--abi", "none")  # fmt: skip


def _link(out: Path) -> None:
    link = out / "kubectl_complete-pantala"
    link.unlink(missing_ok=True)
    link.symlink_to(NAME)
