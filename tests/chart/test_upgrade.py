"""An upgrade of the chart from the former version keeps its values, its volumes and its objects."""

import json
from pathlib import Path

import yaml

from tests.chart.rendered import CHART, Helm
from tests.support.release_data import FIXED, fixed_fields

FORMER = Path(__file__).parents[1] / "data/former"
REMOVED: set[str] = set()
"""Values of the former version that have no meaning any more. CHANGELOG.md names each of them."""

CHANGED = {"prefetch": ("startupTaints",)}
"""Values with another type than in the former version. docs/upgrades.md says what to do about each of them."""


def names(values: object, path: str = "") -> set[str]:
    if not isinstance(values, dict) or not values:
        return {path}
    return {name for key, value in values.items() for name in names(value, f"{path}.{key}".lstrip("."))}


def test_f14_an_upgrade_changes_no_fixed_field_of_a_workload() -> None:
    former, now = json.loads((FORMER / "chart.json").read_text()), fixed_fields()
    assert {"Deployment", "DaemonSet", "StatefulSet"} == {name.split()[0] for name in former} == set(FIXED)
    assert former == {name: fields for name, fields in now.items() if name in former}


def test_f14_the_former_values_are_still_valid(helm: Helm, tmp_path: Path) -> None:
    values = yaml.safe_load((FORMER / "values.yaml").read_text())
    for part, changed in CHANGED.items():
        for name in changed:
            assert f"`{part}.{name}`" in (CHART.parents[1] / "docs/upgrades.md").read_text()
            del values[part][name]
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    done = helm("template", "pantala", str(CHART), "--values", str(tmp_path / "values.yaml"))
    assert 0 == done.returncode, done.stderr


def test_f14_each_former_value_still_exists() -> None:
    former = names(yaml.safe_load((FORMER / "values.yaml").read_text()))
    assert REMOVED == former - names(yaml.safe_load((CHART / "values.yaml").read_text()))
