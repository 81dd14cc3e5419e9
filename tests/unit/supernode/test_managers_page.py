"""The page that maps Dragonfly's managers to ours names things that exist."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from pantala_supernode.dragonfly.rest import RestAPI
from pantala_supernode.dragonfly.routes import DragonflyAPI
from pantala_supernode.http.access import Access, Guard
from pantala_supernode.http.api import NativeAPI

ROOT = Path(__file__).resolve().parents[3]
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
