"""Writes the chart's CRDs, version, README and dashboard, and the reference pages of CRDs, values and metrics.

It also writes the page about troubles. In ``crds/`` it writes the blocks that :mod:`charts.rules` has from the code.

``python -m charts.generate`` writes; with ``--check`` it names the files that differ and ends with status 1.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from charts import dashboard, hub, metrics, rules, troubleshooting
from pantala_protocol import __version__

ROOT = Path(__file__).resolve().parent.parent
CRDS = ROOT / "crds"
CHART = ROOT / "charts" / "pantala"
REFERENCE = ROOT / "docs" / "reference"

_METADATA = """\
  labels:
    {{- include "pantala.labels" . | nindent 4 }}
  {{- if .Values.crds.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
"""
_SCOPES = {"Namespaced": "namespaced", "Cluster": "cluster-scoped"}
_GENERATED = "<!-- Written by charts/generate.py from {source}: edit that. -->\n\n"
_PLATFORMS = {
    "aks": "AKS",
    "eks": "EKS",
    "gke": "GKE",
    "k3s": "k3s",
    "kind": "kind",
    "openshift": "OpenShift",
    "rke2": "RKE2",
    "talos": "Talos",
}
_README = """\
## Install

    kubectl create namespace pantala
    kubectl label namespace pantala pod-security.kubernetes.io/enforce=privileged
    helm install pantala . --namespace pantala --wait --set image.registry=registry.example.com

The label is needed because the peers publish files in a folder of their node. `--create-namespace` replaces the first
two commands if the cluster enforces no Pod Security level. If the level forbids the peers, Helm ends with a sentence
that names the command.

    helm test pantala --namespace pantala          # brings a file and an image to all nodes, and removes its traces
    kubectl get tasks.pantala.dev --all-namespaces # the full name, because other projects have Tasks too
    helm uninstall pantala --namespace pantala --wait

Some platforms need a values file, for example `--values values/k3s.yaml`:

"""
_CONSTRAINTS = ("enum", "default", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "format")


def outputs() -> dict[Path, str]:
    """All generated files with their content."""
    files = {}
    for source in sorted(CRDS.glob("*.yaml")):
        text = files[source] = rules.filled(source.read_text())
        names = yaml.safe_load(text)["spec"]["names"]
        files[CHART / "templates" / "crds" / f"{names['plural']}.yaml"] = template(text)
        files[REFERENCE / f"{names['singular']}.md"] = _GENERATED.format(source=source.relative_to(ROOT)) + page(
            yaml.safe_load(text)
        )
    chart = CHART / "Chart.yaml"
    text = re.sub(r"^(version|appVersion): .*", rf"\1: {__version__}", chart.read_text(), flags=re.MULTILINE)
    files[chart] = hub.filled(text, CRDS, CHART / "values.yaml")
    values = CHART / "values.yaml"
    head = _GENERATED.format(source=values.relative_to(ROOT))
    files[REFERENCE / "values.md"] = head + values_page(values.read_text())
    files[CHART / "README.md"] = head + readme(yaml.safe_load(files[chart]), values.read_text())
    files[ROOT / "docs" / "troubleshooting.md"] = troubleshooting.page()
    files[REFERENCE / "metrics.md"] = _GENERATED.format(source="the metrics.py of each process") + metrics.page()
    files[CHART / "files" / "dashboard.json"] = dashboard.text()
    return files


def template(crd: str) -> str:
    """A CRD as a template that the chart's values turn off, or mark to be kept."""
    head, spec = crd.split("\nspec:\n", 1)
    return f"{{{{- if .Values.crds.enabled }}}}\n{head}\n{_METADATA}spec:\n{spec.rstrip()}\n{{{{- end }}}}\n"


def page(crd: dict[str, Any]) -> str:
    """A kind's reference: one table for each object in its spec and status."""
    spec = crd["spec"]
    version = spec["versions"][0]
    names, schema = spec["names"], version["schema"]["openAPIV3Schema"]
    text = (
        f"# {names['kind']}\n\n`{spec['group']}/{version['name']}`, {_SCOPES[spec['scope']]}, "
        f"short name `{names['shortNames'][0]}`, category `{names['categories'][0]}`.\n\n"
        f"{_line(schema['description'])}\n"
    )
    for part in ("spec", "status"):
        for path, node in _objects(part, schema["properties"][part]):
            text += f"\n## {path}\n\n{_line(node['description'])}\n\n"
            rules = "".join(f"- {rule}\n" for rule in _rules(node))
            text += f"The API server checks these rules:\n\n{rules}\n" if rules else ""
            text += "| field | type | description |\n|---|---|---|\n"
            required = node.get("required", [])
            text += "".join(_row(name, field, name in required) for name, field in node["properties"].items())
    return text


def values_page(text: str) -> str:
    """List the chart's values with their defaults. Each must have a ``# --`` comment above it."""
    start = (
        "# Values of the chart\n\n"
        "Set these values with `helm install --set NAME=VALUE`, or in a file with `helm install --values FILE`.\n\n"
    )
    return start + _values_table(text)


def readme(chart: dict[str, Any], values: str) -> str:
    """The page that registries of charts show."""
    platforms = "".join(
        f"| [{_PLATFORMS[path.stem]}](../../docs/install/{path.stem}.md) | `values/{path.name}` |\n"
        for path in sorted((CHART / "values").glob("*.yaml"))
    )
    return (
        f"# The chart of Pantala\n\n{chart['description']}\n\nVersion {chart['version']}, for Kubernetes "
        f"{chart['kubeVersion'].removeprefix('>=').removesuffix('.0-0')} and newer.\n\n{_README}"
        f"| platform | values file |\n|---|---|\n{platforms}\n## Values\n\n{_values_table(values)}"
    )


def _values_table(text: str) -> str:
    rows = (f"| `{path}` | `{default}` | {comment} |\n" for path, default, comment in _values(text))
    return "| value | default | description |\n|---|---|---|\n" + "".join(rows)


def _values(text: str) -> Iterator[tuple[str, str, str]]:
    comment, path = "", []  # type: tuple[str, list[str]]
    values = yaml.safe_load(text)
    for line in text.splitlines():
        if match := re.fullmatch(r" *# -- (.*)", line):
            comment = match[1]
        elif comment and (match := re.match(r"( *)([A-Za-z0-9]+):", line)):
            path = [*path[: len(match[1]) // 2], match[2]]
            value = values
            for name in path:
                value = value[name]
            yield ".".join(path), _flow(value), comment
            comment = ""
        elif match := re.match(r"( *)([A-Za-z0-9]+):$", line):
            path = [*path[: len(match[1]) // 2], match[2]]


def _flow(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).removesuffix("\n...\n").strip()


def _objects(path: str, node: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """An object and all objects in it, depth first; an array's item is named ``path[]``."""
    if "properties" in node:
        yield path, node
        for name, field in node["properties"].items():
            yield from _objects(f"{path}.{name}", field)
    elif "items" in node:
        yield from _objects(f"{path}[]", node["items"])


def _row(name: str, field: dict[str, Any], required: bool) -> str:
    kind = field.get("type", "integer or string")
    if kind == "array":
        kind = f"[]{field['items']['type']}"
    if "additionalProperties" in field:
        kind = f"map of {field['additionalProperties']['type']}"
    notes = "; ".join(f"{key}: `{_flow(field[key])}`" for key in _CONSTRAINTS if key in field)
    rules = [] if "properties" in field else _rules(field) + _rules(field.get("items", {}))
    text = _line(field["description"]) + (f" ({notes})" if notes else "")
    text += "".join(f" {rule[0].upper()}{rule[1:]}." for rule in rules)
    return f"| `{name}`{' (required)' if required else ''} | {kind} | {text.replace('|', chr(92) + '|')} |\n"


def _rules(node: dict[str, Any]) -> list[str]:
    return [rule["message"] for rule in node.get("x-kubernetes-validations", [])]


def _line(text: str) -> str:
    """One line that Markdown shows as it is: placeholders in angle brackets must not become tags."""
    return " ".join(text.split()).replace("<", r"\<")


def main(arguments: list[str]) -> int:
    """Write the files that differ, or only name them."""
    stale = {path: text for path, text in outputs().items() if not path.exists() or path.read_text() != text}
    for path, text in stale.items():
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")
        if "--check" not in arguments:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
