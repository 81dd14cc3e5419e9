"""The tree keeps the rules of its documents: rooms, names, arrows, plain English and the page of managers."""

import ast
import importlib
import re
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pantala_supernode.dragonfly.rest import RestAPI
from pantala_supernode.dragonfly.routes import DragonflyAPI
from pantala_supernode.http.access import Access, Guard
from pantala_supernode.http.api import NativeAPI
from tests.support import prose

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(path for path in ROOT.glob("*/pantala_*") if path.is_dir())
GENERATED = "_pb2.py"

SAME_NAME_IN_EACH_PROCESS = {
    "App",  # the composition root of a process
    "Settings",  # the settings of a process
}
"""Public class names that several packages may use, because the package says all that differs."""

SMALL_BY_NATURE = {"__init__.py", "__main__.py", "errors.py"}


@cache
def modules() -> dict[str, Path]:
    """Every module of the packages by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in package.rglob("*.py"):
            parts = path.relative_to(package.parent).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_folder_operator_does_not_shadow_the_standard_library() -> None:
    """With an __init__.py in operator/, a run from the root would break ``import collections``."""
    assert not (ROOT / "operator" / "__init__.py").exists()
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import collections"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (0, "") == (done.returncode, done.stderr)


def test_locks_name_no_index() -> None:
    """A lock works with any package index."""
    for lock in (ROOT / "requirements").glob("*.txt"):
        assert "://" not in lock.read_text(), lock.name


def test_a_module_is_one_noun() -> None:
    """A module has 25 to 350 lines: a shorter one belongs elsewhere, a longer one is two."""
    lines = {path: len(path.read_text().splitlines()) for path in modules().values()}
    odd = {
        relative(path): count
        for path, count in lines.items()
        if count > 350 or (count < 25 and path.name not in SMALL_BY_NATURE)
        if not path.name.endswith(GENERATED)
    }
    assert {} == odd


def test_a_room_has_at_most_14_modules() -> None:
    rooms: dict[Path, int] = defaultdict(int)
    for path in modules().values():
        rooms[path.parent] += 1
    assert {} == {relative(room): count for room, count in rooms.items() if count > 14}


def test_a_public_class_name_means_one_thing() -> None:
    places = defaultdict(list)
    for path in modules().values():
        if not path.name.endswith(GENERATED):
            for node in ast.walk(tree(path)):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places[node.name].append(relative(path))
    twice = {name: found for name, found in places.items() if len(found) > 1}
    assert {} == {name: found for name, found in twice.items() if name not in SAME_NAME_IN_EACH_PROCESS}
    assert len(SAME_NAME_IN_EACH_PROCESS) <= 10


def test_no_import_cycle() -> None:
    arrows = {name: _imports(name, path) for name, path in modules().items()}
    cyclic = [sorted(group) for group in _components(arrows) if len(group) > 1]
    assert [] == cyclic


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_a_process_is_composed_from_finished_objects(package: Path) -> None:
    """A constructor takes what exists already: few lambdas, and no ``attach`` that completes an object later."""
    app = package / "app.py"
    if app.exists():
        assert sum(isinstance(node, ast.Lambda) for node in ast.walk(tree(app))) <= 4
    attached = [
        relative(path)
        for path in package.rglob("*.py")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef) and node.name == "attach"
    ]
    assert [] == attached


def _imports(name: str, path: Path) -> set[str]:
    """The modules that a module imports when it is loaded."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found.add(submodule if submodule in modules() else node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return {each for each in found if each in modules() and each != name}


def _components(arrows: dict[str, set[str]]) -> list[set[str]]:
    """The strongly connected components of a graph, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in arrows[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = set()
            while node not in group:
                group.add(stack.pop())
            found.append(group)

    for each in arrows:
        if each not in index:
            visit(each)
    return found


PAGES = prose.find([prose.ROOT / name for name in prose.PAGES], ".md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_has_no_forbidden_word_and_no_long_sentence(page: Path) -> None:
    passages = prose.page_passages(page)
    assert [] == prose.count(passages).broken
    assert [] == prose.long_sentences(passages)[1]


def test_pages_use_few_vague_words_and_short_sentences() -> None:
    passages = [passage for page in PAGES for passage in prose.page_passages(page)]
    assert [] == prose.count(passages).too_many()
    assert prose.MEDIAN_SENTENCE >= prose.long_sentences(passages)[0]


def test_packages_have_no_forbidden_word_and_few_vague_ones() -> None:
    files = prose.find([prose.ROOT / name for name in prose.PACKAGES], ".py")
    total = prose.count([passage for file in files for passage in prose.python_passages(file)])
    assert [] == total.broken + total.too_many()


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
    native = NativeAPI(nothing, nothing, nothing, nothing).operations()
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
