"""The start of the one-file plugin: unpacks its wheels once into the user's cache, and runs the command.

The build copies this module into the file as ``__main__.py``. It uses only the standard library. Python 3.7 and newer
can read it, so that an old version prints one line and no traceback.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

INDEX = "index.json"


def main() -> None:
    """Run ``kubectl pantala``, or the completion if the file is called by that name."""
    with zipfile.ZipFile(sys.path[0]) as file:
        index = json.loads(file.read(INDEX).decode())
        problem = unfit(index, (platform.system(), platform.machine()), sys.version_info[:2])
        if problem:
            sys.exit(f"error: {problem}")
        sys.path.insert(0, unpacked(file, index["digest"]))
    if "complete" in Path(sys.argv[0]).name:
        from pantala_cli.app import complete

        complete()
    else:
        from pantala_cli.__main__ import main as run

        run()


def unfit(index: dict[str, Any], machine: tuple[str, str], version: tuple[int, int]) -> str:
    """Why this file does not run here. Empty: it does."""
    if list(machine) != index["machine"]:
        return f"This file is for {' '.join(index['machine'])}. Use the file for {' '.join(machine)}."
    if list(version) not in index["pythons"]:
        known = ", ".join(f"{major}.{minor}" for major, minor in index["pythons"])
        return f"This file needs Python {known}, and python3 is {version[0]}.{version[1]}. Put one of them into PATH."
    return ""


def unpacked(file: zipfile.ZipFile, digest: str) -> str:
    """The folder with the libraries. It is made at the first start, and appears complete or not at all."""
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pantala"
    folder = caches / f"plugin-{digest[:16]}-{tag}"
    if folder.is_dir():
        return str(folder)
    try:
        caches.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix="plugin-", dir=str(caches)))
    except OSError as error:
        sys.exit(f"error: The folder {caches} cannot be written: {error.strerror}. Set XDG_CACHE_HOME.")
    try:
        for name in chosen([each for each in file.namelist() if each.endswith(".whl")], tag):
            with file.open(name) as inner, zipfile.ZipFile(inner) as wheel:
                wheel.extractall(str(made))
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():  # another start was faster if it exists
                raise
    finally:
        shutil.rmtree(str(made), ignore_errors=True)
    return str(folder)


def chosen(names: list[str], tag: str) -> list[str]:
    """For each project the wheel for this version of Python, or else the one for all."""
    found: dict[str, str] = {}
    for name in sorted(names):
        project, *_, python, abi, _ = Path(name).stem.split("-")
        if tag in python.split("."):
            found[project] = name
        elif abi in ("abi3", "none") and (abi == "abi3" or "py3" in python.split(".")):
            found.setdefault(project, name)
    return sorted(found.values())


if __name__ == "__main__":
    main()
