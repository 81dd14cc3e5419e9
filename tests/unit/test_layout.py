"""The tree keeps the rules of docs/architecture.md: rooms, names and arrows."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(path for path in ROOT.glob("*/pantala_*") if path.is_dir())
GENERATED = "_pb2.py"
_CLASS = re.compile(r"^ *class ([A-Za-z]\w*)", re.MULTILINE)
"""A public class. A pattern is ten times as fast as the syntax tree."""

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


def statements(parent: ast.AST) -> Iterator[ast.stmt]:
    """All statements at any depth. Expressions are most of a tree, and have none."""
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        for each in getattr(parent, name, ()):
            if isinstance(each, ast.stmt):
                yield each
            yield from statements(each)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_folder_operator_does_not_shadow_the_standard_library() -> None:
    """With an __init__.py in operator/, a run from the root would break ``import collections``."""
    assert not (ROOT / "operator" / "__init__.py").exists()
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import collections"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (0, "") == (done.returncode, done.stderr)


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
            for name in _CLASS.findall(path.read_text()):
                places[name].append(relative(path))
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
        assert sum(isinstance(node, ast.Lambda) for node in ast.walk(ast.parse(app.read_text()))) <= 4
    assert [] == [relative(path) for path in package.rglob("*.py") if "def attach(" in path.read_text()]


def _imports(name: str, path: Path) -> set[str]:
    """The modules that a module imports when it is loaded."""
    found = set()
    for node in statements(ast.parse(path.read_text())):
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
