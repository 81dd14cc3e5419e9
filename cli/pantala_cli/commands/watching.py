"""Follows the changes of resources, as ``kubectl get -w`` does: a line for each change, or one live table."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import typer
from rich.live import Live
from rich.table import Table

from pantala_cli.access.cluster import Cluster
from pantala_cli.access.kinds import Resource, ResourceKind
from pantala_cli.errors import RefusedError
from pantala_cli.show import terminal

_GONE = 410
"""The API server no longer has the changes since our version. We list again."""

Printer = Callable[[ResourceKind, list[Resource]], Table | str]


def changes(
    cluster: Cluster, kind: ResourceKind, namespace: str | None, selector: str = ""
) -> Iterator[tuple[str, Resource]]:
    """Yield all objects as ``ADDED``, then each change, without an end."""
    known: dict[tuple[str, str], str] = {}
    while True:
        found, version = cluster.listing(kind, namespace, selector)
        present = {_key(each) for each in found}
        for gone in set(known) - present:
            del known[gone]
            yield "DELETED", {"metadata": {"namespace": gone[0], "name": gone[1]}}
        for each in found:
            stamp = each["metadata"].get("resourceVersion", "")
            if known.get(_key(each)) != stamp:
                yield "MODIFIED" if _key(each) in known else "ADDED", each
                known[_key(each)] = stamp
        yield "LISTED", {"metadata": {}}
        with contextlib.suppress(_EndedError):
            while True:
                for what, each in cluster.watch(kind, namespace, selector, version):
                    version = _version(what, each, version)
                    if what == "BOOKMARK":
                        continue
                    if what == "DELETED":
                        known.pop(_key(each), None)
                    else:
                        known[_key(each)] = version
                    yield what, each


class _EndedError(Exception):
    """The watch cannot continue from its version."""


def _version(what: str, each: Resource, former: str) -> str:
    if what == "ERROR":
        if each.get("code") == _GONE:
            raise _EndedError
        raise RefusedError(f"The API server ended the watch: {each.get('message', 'it gave no reason')}. Try again.")
    return str(each["metadata"].get("resourceVersion", former))


def watch(
    cluster: Cluster,
    kind: ResourceKind,
    namespace: str | None,
    selector: str,
    names: Sequence[str],
    printer: Printer,
) -> None:
    """Show the objects and each change until Ctrl-C: one table on a terminal, otherwise a line for each change."""
    shown = terminal.console()
    objects: dict[tuple[str, str], Resource] = {}
    live = None
    header, listed = True, False
    with contextlib.ExitStack() as stack:
        for what, each in changes(cluster, kind, namespace, selector):
            if what == "LISTED":
                listed = True
            elif names and each["metadata"]["name"] not in names:
                continue
            elif what == "DELETED":
                objects.pop(_key(each), None)
            else:
                objects[_key(each)] = each
            if not shown.is_terminal:
                if what not in ("LISTED", "DELETED"):
                    header = _line(printer(kind, [each]), header=header)
            elif listed:
                content = printer(kind, list(objects.values()))
                if live is None:
                    live = stack.enter_context(Live(content, console=shown, auto_refresh=False))
                live.update(content, refresh=True)


def _line(content: Table | str, *, header: bool) -> bool:
    if isinstance(content, str):
        typer.echo(content)
    else:
        content.show_header = header
        terminal.show(content)
    return False


def _key(each: Resource) -> tuple[str, str]:
    return each["metadata"].get("namespace", ""), each["metadata"]["name"]
