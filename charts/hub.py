"""The annotations of the chart for Artifact Hub, from the CRDs, their samples and the values."""

import re
from pathlib import Path
from typing import Any

import yaml

from pantala_protocol import __version__

_COMPONENTS = ("operator", "supernode", "peer", "runtime")
_PLAIN = {
    "category": "storage",
    "license": "Apache-2.0",
    "operator": "true",
    "operatorCapabilities": "Seamless Upgrades",
    "prerelease": "false",
    "containsSecurityUpdates": "false",
}


def filled(chart: str, crds: Path, values: Path) -> str:
    """The text of ``Chart.yaml`` with all annotations, which are its last part."""
    head = re.split(r"^annotations:\n", chart, flags=re.MULTILINE)[0]
    lists = {
        "crds": [_crd(yaml.safe_load(path.read_text())) for path in sorted(crds.glob("*.yaml"))],
        "crdsExamples": _samples(crds / "samples"),
        "images": _images(yaml.safe_load(values.read_text())),
    }
    text = "".join(f"  artifacthub.io/{name}: {_plain(value)}\n" for name, value in _PLAIN.items())
    for name, entries in lists.items():
        block = yaml.safe_dump(entries, sort_keys=False, width=10_000)
        text += f"  artifacthub.io/{name}: |\n" + "".join(f"    {line}\n" for line in block.splitlines())
    return f"{head}annotations:\n{text}"


def _plain(value: str) -> str:
    return f'"{value}"' if value in ("true", "false") else value


def _crd(crd: dict[str, Any]) -> dict[str, str]:
    names = crd["spec"]["names"]
    version = crd["spec"]["versions"][0]
    return {
        "kind": names["kind"],
        "version": version["name"],
        "name": crd["metadata"]["name"],
        "displayName": names["kind"],
        "description": " ".join(version["schema"]["openAPIV3Schema"]["description"].split()),
    }


def _samples(folder: Path) -> list[Any]:
    """The sample of each kind that users create."""
    paths = [folder / name for name in ("imageprefetch.yaml", "sourcepolicy.yaml", "task.yaml")]
    found = [each for path in paths for each in yaml.safe_load_all(path.read_text())]
    return [each for each in found if str(each["apiVersion"]).startswith("pantala.dev/")]


def _images(values: dict[str, Any]) -> list[dict[str, str]]:
    return [{"name": name, "image": f"{values[name]['image']['repository']}:{__version__}"} for name in _COMPONENTS]
