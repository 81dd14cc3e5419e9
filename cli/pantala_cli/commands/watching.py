"""Follows the changes of resources, as ``kubectl get -w`` does: a line for each change."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from itertools import zip_longest

import typer
from rich.table import Table

from pantala_cli.access.cluster import Cluster, missing
from pantala_cli.access.kinds import Resource, ResourceKind, key_of
from pantala_cli.errors import CLIError
from pantala_cli.show import columns, terminal

Printer = Callable[[ResourceKind, list[Resource]], Table | str]


def changes(
    cluster: Cluster, kind: ResourceKind, namespace: str | None, selector: str = "", name: str = ""
) -> Iterator[tuple[str, Resource]]:
    """Yield all objects as ``ADDED``, then each change, without an end. ``name``: only this object."""
    known: dict[tuple[str, str], str] = {}
    while True:
        found, version = cluster.listing(kind, namespace, selector, name)
        present = {key_of(each) for each in found}
        for gone in set(known) - present:
            del known[gone]
            yield "DELETED", {"metadata": {"namespace": gone[0], "name": gone[1]}}
        for each in found:
            stamp = each["metadata"].get("resourceVersion", "")
            if known.get(key_of(each)) != stamp:
                yield "MODIFIED" if key_of(each) in known else "ADDED", each
                known[key_of(each)] = stamp
        yield "LISTED", {"metadata": {}}
        with contextlib.suppress(_EndedError):
            while True:
                for what, each in cluster.watch(kind, namespace, selector, version, name):
                    version = _version(what, each, version)
                    if what == "BOOKMARK":
                        continue
                    if what == "DELETED":
                        known.pop(key_of(each), None)
                    else:
                        known[key_of(each)] = version
                    yield what, each


class _EndedError(Exception):
    """The watch cannot continue from its version."""


def _version(what: str, each: Resource, former: str) -> str:
    if what == "ERROR":
        if each.get("code") == HTTPStatus.GONE:  # The API server has no changes since this version
            raise _EndedError
        raise CLIError(f"The API server ended the watch: {each.get('message', 'it gave no reason')}. Try again.")
    return str(each["metadata"].get("resourceVersion", former))


def watch(
    cluster: Cluster, kind: ResourceKind, namespace: str | None, selector: str, names: Sequence[str], printer: Printer
) -> None:
    """Show the objects, and then a line for each change, until Ctrl-C.

    Raises :class:`pantala_cli.errors.ObjectMissingError` if one of ``names`` does not exist at the start.
    """
    lines = _Lines()
    first: list[Resource] | None = []
    for what, each in changes(cluster, kind, namespace, selector, names[0] if len(names) == 1 else ""):
        if what == "LISTED":
            if first is not None:
                _check(kind, namespace, names, first)
            if first:
                lines.show(printer(kind, first))
            first = None
        elif what != "DELETED" and (not names or each["metadata"]["name"] in names):
            if first is None:
                lines.show(printer(kind, [each]))
            else:
                first.append(each)


def _check(kind: ResourceKind, namespace: str | None, names: Sequence[str], found: list[Resource]) -> None:
    present = {each["metadata"]["name"] for each in found}
    for name in names:
        if name not in present:
            raise missing(kind.called(namespace, name))


class _Lines:
    """Prints tables below each other with one heading, so that their columns stay aligned."""

    def __init__(self) -> None:
        self._widths: list[int] = []

    def show(self, content: Table | str) -> None:
        if isinstance(content, str):
            typer.echo(content)
            return
        content.show_header = content.show_header and not self._widths
        self._widths = [max(pair) for pair in zip_longest(self._widths, columns.widths(content), fillvalue=0)]
        for column, width in zip(content.columns, self._widths, strict=True):
            column.min_width = width
        terminal.show(content)
