"""An upgrade of the chart from the former version keeps its values, its volumes and its objects."""

import json
from pathlib import Path

import yaml

from tests.chart.rendered import CHART, Helm
from tests.support.release_data import FIXED, fixed_fields

FORMER = Path(__file__).parents[1] / "data/former"
REMOVED: set[str] = set()
"""Values of the former version that have no meaning any more. CHANGELOG.md names each of them."""


def names(values: object, path: str = "") -> set[str]:
    if not isinstance(values, dict) or not values:
        return {path}
    return {name for key, value in values.items() for name in names(value, f"{path}.{key}".lstrip("."))}


def test_f14_an_upgrade_changes_no_fixed_field_of_a_workload() -> None:
    former, now = json.loads((FORMER / "chart.json").read_text()), fixed_fields()
    assert {"Deployment", "DaemonSet", "StatefulSet"} == {name.split()[0] for name in former} == set(FIXED)
    assert former == {name: fields for name, fields in now.items() if name in former}


def test_f14_the_former_values_are_still_valid(helm: Helm) -> None:
    done = helm("template", "pantala", str(CHART), "--values", str(FORMER / "values.yaml"))
    assert 0 == done.returncode, done.stderr


def test_f14_each_former_value_still_exists() -> None:
    former = names(yaml.safe_load((FORMER / "values.yaml").read_text()))
    assert REMOVED == former - names(yaml.safe_load((CHART / "values.yaml").read_text()))
