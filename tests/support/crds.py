"""The CRDs of the chart, as the tests read them."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

_FOLDER = Path(__file__).resolve().parents[2] / "crds"


@cache
def crd(plural: str) -> dict[str, Any]:
    """A CRD. libyaml parses it ten times as fast as Python would."""
    found: dict[str, Any] = yaml.load((_FOLDER / f"pantala.dev_{plural}.yaml").read_text(), yaml.CSafeLoader)
    return found


def schema(plural: str) -> dict[str, Any]:
    """The OpenAPI schema of a CRD's only version."""
    found: dict[str, Any] = crd(plural)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def crds() -> list[dict[str, Any]]:
    return [crd(path.stem.partition("_")[2]) for path in sorted(_FOLDER.glob("*.yaml"))]
