"""Writes ``docs/reference/api.md`` from the operations of the supernode. ``python -m handbook.api`` writes the page."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec

import pantala_supernode.http
from pantala_supernode.http.operations import Operation, document

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "api.md"

_START = """\
<!-- Written by handbook/api.py from the operations of the supernode: run `make pages`. -->

# API of the supernode

Pantala's own processes use this API. It may change in each minor version. Use the resources instead, because they stay
compatible. A request needs a ServiceAccount token with the audience `pantala` as a bearer token. By default, it also
needs a client certificate. All bodies except contents are JSON. An error is
`{"error": {"reason": ..., "message": ...}}`.

`GET /openapi.json` is the OpenAPI document of the running supernode, with all fields. For users and tools, the operator
has a read-only endpoint, the [console](../console.md). With `--dragonfly` there are [further routes](managers.md).

| request | which clients may call it | what it does |
|---|---|---|
"""


def operations() -> Iterator[Operation]:
    """All operations in the room ``http``, in the order of its modules."""
    for module in pkgutil.iter_modules(pantala_supernode.http.__path__):
        found = importlib.import_module(f"pantala_supernode.http.{module.name}")
        kinds: list[tuple[str, Any]] = inspect.getmembers(found, inspect.isclass)
        for _, kind in kinds:
            if kind.__module__ == found.__name__ and callable(getattr(kind, "operations", None)):
                # The table of operations needs only the names of the handlers.
                yield from kind.operations(object.__new__(kind))


def page() -> str:
    """The whole page."""
    listed = sorted(operations(), key=lambda each: (each.path, each.method))
    paths = document(listed)["paths"]
    rows = "".join(f"| `{each.method} {each.path}` | {each.access.value} | {each.summary} |\n" for each in listed)
    text = _START + rows
    for each in listed:
        answers = paths[each.path][each.method.lower()]["responses"]
        text += f"\n## {each.method} {each.path}\n\n{each.summary}. Access: {each.access.value}.\n\n"
        if each.query is not None:
            names = ", ".join(f"`{field.encode_name}`" for field in msgspec.structs.fields(each.query))
            text += f"- Parameters: {names}\n"
        if each.body is not None:
            text += f"- Body: `{each.body.__name__}`\n"
        text += f"- Answers: {', '.join(_answer(status, each) for status in answers)}\n"
    return text


def _answer(status: str, operation: Operation) -> str:
    kind = operation.answers.get(int(status))
    name = getattr(kind, "__name__", "")
    return f"{status} {HTTPStatus(int(status)).phrase}" + (f" (`{name}`)" if name and name != "ErrorBody" else "")


def main() -> None:
    """Write the page."""
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
