"""The documentation is in plain English, its links lead somewhere, and what it names exists."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pantala_supernode.dragonfly.rest import RestAPI
from pantala_supernode.dragonfly.routes import DragonflyAPI
from pantala_supernode.http.access import Access, Guard
from pantala_supernode.http.api import NativeAPI
from tests.support import prose

ROOT = prose.ROOT
PAGES = prose.find([ROOT / name for name in prose.PAGES], ".md")
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
PACKAGES = {
    "operator": ROOT / "operator/pantala_operator",
    "supernode": ROOT / "supernode/pantala_supernode",
    "peer": ROOT / "peer/pantala_peer",
    "pieces": ROOT / "pieces/pantala_pieces",
    "runtime helper": ROOT / "peer/pantala_runtime",
    "plugin": ROOT / "cli/pantala_cli",
}

_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_ROOM = re.compile(rf"(?i:\b({'|'.join(PACKAGES)}))(?=\*\*| `)|`([a-z_]+(?:/[a-z_]+)*)/?`")
_FILE = re.compile(r"`(\w+/[\w./*-]+\.(?:py|md|yaml))`")
VALUES = yaml.safe_load((ROOT / "charts/pantala/values.yaml").read_text())
_VALUE = re.compile(rf"`((?:{'|'.join(VALUES)})\.(?!md`|ya?ml`|gcr\.io`)[a-zA-Z.*]+)[:`]")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def rooms() -> Iterator[tuple[str, str]]:
    """Each room and module in the tables, with the process that was named last."""
    _, text = ARCHITECTURE.split("## Rooms")
    text, rest = text.split("## Conversations")
    _, changes = rest.split("## To change something")
    process = ""
    for line in (text + changes).splitlines():
        if line.startswith(("| ", "**")):
            for named, room in _ROOM.findall(line):
                process = named.lower() or process
                if room:
                    yield process, room


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for name, anchor in _LINK.findall(_CODE.sub("", page.read_text())):
        target = page.parent / name if name else page
        assert target.exists(), name
        assert not anchor or anchor in anchors(target), f"{name}#{anchor}"


def test_the_architecture_names_rooms_and_modules_that_exist() -> None:
    found = list(rooms())
    assert 70 < len(found)
    paths = [(name, folder / name) for name, folder in ((name, PACKAGES[process]) for process, name in found)]
    assert [] == [name for name, path in paths if not (path.is_dir() or path.with_suffix(".py").is_file())]


def test_the_architecture_names_files_that_exist() -> None:
    named = _FILE.findall(ARCHITECTURE)
    assert 5 < len(named)
    assert [] == [name for name in named if not any(ROOT.glob(name))]


def is_value(name: str) -> bool:
    """True if the chart has the value. An empty map may have any key."""
    found = VALUES
    for key in name.split("."):
        if found == {} or key == "*":
            return True
        if not isinstance(found, dict) or key not in found:
            return False
        found = found[key]
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_chart_has_the_values_that_a_page_names(page: Path) -> None:
    assert [] == [name for name in _VALUE.findall(page.read_text()) if not is_value(name)]


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("It shall be done anew.", 2),
        ("This is no URL, and there are no others.", 2),
        ("It is no longer used, and is no more.", 0),
        ("It is not a valid URL. Marshall knows `shall`.", 0),
    ],
)
def test_forbidden_words_are_found_outside_of_code(text: str, broken: int) -> None:
    assert broken == len(prose.count([prose.Passage(Path("page.md"), 1, text)]).broken)


def test_docstrings_comments_and_texts_are_read_but_not_names(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text('"""A docstring."""\n# A comment.\nNAME = {"key": "two words", "KEY": f"{NAME} is set"}\n')
    assert ["A docstring.", "two words", " is set", "A comment."] == [p.text for p in prose.python_passages(file)]


def test_a_page_is_split_into_paragraphs_items_and_cells(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Title\n\nOne. Two\nlines.\n\n- an item\n  goes on\n\n| a | b |\n|---|---|\n\n```\ncode\n```\n    code\n"
    )
    passages = prose.page_passages(page)
    assert ["One. Two\nlines.", "an item\ngoes on", "a", "b"] == [passage.text for passage in passages]
    assert ["One.", "Two lines."] == prose.sentences(passages[0])


ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs/reference/managers.md").read_text().splitlines()
    if re.match(r"\| [A-Z]\w+ \| `", line)
]
METHODS = 5 + 5 + 8 + 5 + 1 + 3


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def routes() -> set[str]:
    nothing: Any = None
    rest = RestAPI(nothing, nothing, nothing, nothing, access=Access.OPERATOR).operations()
    native = NativeAPI(*[nothing] * 6).operations()
    seen = {f"{operation.method} {operation.path}" for operation in (*rest, *native)} | {"GET /metrics"}

    class Noted(Guard):
        def add(self, router: Any, method: str, path: str, handler: Any, access: Access) -> None:
            seen.add(f"{method} {path}")

    DragonflyAPI(nothing).add_routes(nothing, Noted(None, operator="", peer="", supernode=""))
    return seen


def test_every_method_is_on_the_page() -> None:
    assert METHODS == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_each_named_method_route_and_test_exists(row: list[str]) -> None:
    _, ours, where, test = row
    for name in quoted(ours):
        module, kind, method = name.rsplit(".", 2)
        assert hasattr(getattr(importlib.import_module(f"pantala_supernode.{module}"), kind), method)
    assert set(quoted(where)) <= routes()
    (named,) = quoted(test)
    file, _, function = named.partition("::")
    assert re.search(rf"^(async def|def|class) {function}\b|^{function} = ", (ROOT / "tests" / file).read_text(), re.M)
