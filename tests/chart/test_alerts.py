"""The alerts, checked and run by Prometheus' own promtool."""

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.chart.rendered import CHART
from tests.support.prometheus_programs import needed
from tests.support.prose import ROOT

ALERTS = CHART / "files" / "alerts.yaml"
RULES = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
CASES = ROOT / "tests" / "data" / "alerts"


def promtool(*arguments: object) -> str:
    command = [str(needed("promtool")), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert 0 == result.returncode, result.stdout + result.stderr
    return result.stdout


def test_promtool_accepts_the_alerts() -> None:
    assert f"{len(RULES)} rules found" in promtool("check", "rules", ALERTS)


def test_promtool_accepts_the_configuration_in_the_documentation(tmp_path: Path) -> None:
    """Debian's Prometheus does not know Kubernetes, so the test gives it addresses instead."""
    _, _, rest = (ROOT / "docs" / "monitoring.md").read_text().partition("## With a plain Prometheus")
    block = rest.partition("```yaml\n")[2].partition("```")[0]
    (tmp_path / "alerts.yaml").write_bytes(ALERTS.read_bytes())
    configuration = yaml.safe_load(block)
    [scraped] = configuration["scrape_configs"]
    assert [{"role": "pod", "namespaces": {"names": ["pantala"]}}] == scraped.pop("kubernetes_sd_configs")
    scraped["static_configs"] = [{"targets": ["127.0.0.1:1"]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    assert "is valid prometheus config file syntax" in promtool("check", "config", tmp_path / "prometheus.yml")


def test_each_alert_has_a_test_of_its_own() -> None:
    assert {each["alert"] for each in RULES} == {file.stem for file in CASES.glob("*.yaml")}


@pytest.mark.parametrize("alert", [each["alert"] for each in RULES])
def test_each_alert_fires_in_time_and_not_before(alert: str) -> None:
    file = CASES / f"{alert}.yaml"
    promtool("test", "rules", file)
    cases = yaml.safe_load(file.read_text())["tests"][0]["alert_rule_test"]
    assert {alert} == {case["alertname"] for case in cases}
    assert {True, False} == {bool(case["exp_alerts"]) for case in cases}, "one moment with the alert, and one without"
