"""The site of the documentation builds without a warning, and its pages load nothing from other servers."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from pantala_operator.plan.nodes import TaskNodes
from pantala_operator.plan.task_conditions import TaskInputs, evaluate
from pantala_operator.resources.conditions import merge
from pantala_operator.resources.status import Obstacle
from pantala_protocol.reasons import Reason
from pantala_protocol.statement import CDNStatus, TaskReport

ROOT = Path(__file__).resolve().parents[2]
_LOADED = re.compile(
    r"<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\bsrc=\"(?P<src>[^\"]+)\""
    r"|<link\b[^>]*\bhref=\"(?P<link>[^\"]+)\"|url\(\"?(?P<url>[^)\"]+)",
    re.IGNORECASE,
)
_LIST_AS_TEXT = re.compile(r"<p>[^<]*\n(?:[-*] |\d+\. |\|)")


@pytest.fixture(scope="module")
def site() -> Path:
    """The built site. mkdocs checks all links and anchors, and ``--strict`` turns each warning into an error."""
    done = subprocess.run(
        ["make", "--silent", "site", f"PYTHON={sys.executable}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return ROOT / "build" / "site"


def pages(site: Path) -> dict[str, str]:
    return {str(path.relative_to(site)): path.read_text() for path in sorted(site.rglob("*.html"))}


def test_each_page_of_the_project_is_on_the_site(site: Path) -> None:
    sources = {str(path.relative_to(ROOT / "docs").with_suffix(".html")) for path in (ROOT / "docs").rglob("*.md")}
    built = pages(site).keys()
    assert sources <= built
    assert {"project/changelog.html", "project/security-policy.html", "reference/samples.html"} <= built


def test_no_page_loads_anything_from_another_server(site: Path) -> None:
    loaded = [
        (name, found)
        for name, text in {**pages(site), **{p.name: p.read_text() for p in site.rglob("*.css")}}.items()
        for match in _LOADED.finditer(text)
        for found in match.groups()
        if found
    ]
    assert len(loaded) > 100, "the pattern finds nothing"
    assert [] == [(name, found) for name, found in loaded if re.match(r"(?:https?:)?//", found)]


def test_lists_and_tables_are_not_shown_as_text(site: Path) -> None:
    """GitHub shows a list without an empty line before it, but the site does not."""
    shown = {name: found[0][:80] for name, text in pages(site).items() if (found := _LIST_AS_TEXT.search(text))}
    assert {} == shown


_LUA = """
import json, sys
from lupa import LuaRuntime

lua = LuaRuntime(unpack_returned_tuples=True)
script, objects = json.load(sys.stdin)
health = lua.eval("function(obj) " + script + " end")
print(json.dumps([dict(health(lua.table_from(each, recursive=True))) for each in objects]))
"""
_REPORT = TaskReport("uid", "0" * 64, cdn_status=CDNStatus.SUCCESS, length=1, pieces_total=1, pieces_cached=1)
_DENIED = Obstacle(Reason.SOURCE_NOT_FOUND, "The origin does not have the file.", final=True)


def _nodes(ready: int) -> TaskNodes:
    return TaskNodes(frozenset("abc"), frozenset("abc"[:ready]))


def resource(inputs: TaskInputs, generation: int = 1) -> dict[str, Any]:
    """A Task with the conditions that the operator writes for ``inputs``, at generation 1."""
    conditions = merge((), evaluate(inputs), 1, datetime.now(UTC))
    status = {"observedGeneration": 1, "conditions": msgspec.to_builtins(conditions)}
    return {"metadata": {"generation": generation}, "status": status}


@pytest.mark.parametrize(
    ("expected", "task"),
    [
        ("Progressing", {"metadata": {"generation": 1}}),
        ("Progressing", resource(TaskInputs(True, False, report=_REPORT, nodes=_nodes(2)))),
        ("Healthy", resource(TaskInputs(True, False, report=_REPORT, nodes=_nodes(3)))),
        ("Progressing", resource(TaskInputs(True, False, report=_REPORT, nodes=_nodes(3)), generation=2)),
        ("Suspended", resource(TaskInputs(True, True, report=_REPORT, nodes=_nodes(2)))),
        ("Degraded", resource(TaskInputs(True, False, source=_DENIED))),
    ],
)
@pytest.mark.usefixtures("site")
def test_argo_cd_understands_the_conditions(expected: str, task: dict[str, Any]) -> None:
    """Argo CD runs such scripts in Lua too. The script is that of the page."""
    page = (ROOT / "docs" / "howto" / "gitops.md").read_text()
    [block] = [
        each for each in re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL) if "argocd-cm" in each
    ]
    scripts: dict[str, str] = yaml.safe_load(block)["data"]
    assert 2 == len(scripts)
    assert 1 == len(set(scripts.values()))
    done = subprocess.run(
        [ROOT / ".venv-docs" / "bin" / "python", "-c", _LUA],
        input=json.dumps([next(iter(scripts.values())), [task]]),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    [health] = json.loads(done.stdout)
    assert expected == health["status"]
    assert health["message"]
