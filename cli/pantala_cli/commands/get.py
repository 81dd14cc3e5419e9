"""``get``: the resources as tables, JSON, YAML or names."""

import time
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Annotated, NamedTuple

import typer
from rich.table import Table

from pantala_cli.access import kinds
from pantala_cli.access.cluster import Cluster
from pantala_cli.access.kinds import IMAGE, PEER, TASK, Resource, ResourceKind
from pantala_cli.access.options import UserAccess
from pantala_cli.access.targets import several
from pantala_cli.commands.watching import watch as watched
from pantala_cli.errors import CLIError
from pantala_cli.show import resources, tables, terminal
from pantala_protocol.console.views import MOST_TASKS, Console, TaskSummary


class Form(StrEnum):
    """The forms of the output."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


Words = Annotated[
    list[str],
    typer.Argument(metavar="TYPE", help="tasks, images, peers or all, then names. Or TYPE/NAME.", show_default=False),
]  # fmt: skip
Output = Annotated[
    Form, typer.Option("--output", "-o", help="The format. wide adds facts from the operator's console.")
]
AllNamespaces = Annotated[bool, typer.Option("--all-namespaces", "-A", help="Show the objects of all namespaces.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Show each later change too, until Ctrl-C.")]
Selector = Annotated[
    str,
    typer.Option(
        "--selector",
        "-l",
        metavar="SELECTOR",
        help="Show objects with these labels, such as app=model.",
        show_default=False,
    ),
]
NoHeaders = Annotated[bool, typer.Option("--no-headers", help="Print no heading.")]


class Wanted(NamedTuple):
    """Which objects of one kind to get."""

    kind: ResourceKind
    names: tuple[str, ...] = ()


def get(
    access: UserAccess,
    what: Words,
    output: Output = Form.TABLE,
    all_namespaces: AllNamespaces = False,
    watch: Watch = False,
    selector: Selector = "",
    no_headers: NoHeaders = False,
) -> None:
    """Show Tasks, ImagePrefetches or peers."""
    wanted = chosen(what)
    names = any(each.names for each in wanted)
    if names and (all_namespaces or selector):
        raise typer.BadParameter("A name needs one namespace and no selector. Omit -A and -l, or the name.")
    if watch and len(wanted) > 1:
        raise typer.BadParameter("--watch shows one kind. Name one of tasks, images and peers.")
    with access.cluster() as cluster:
        namespace = None if all_namespaces else access.chosen(cluster)
        if watch:
            (only,) = wanted
            shown = _printer(output, all_namespaces, headers=not no_headers)
            watched(cluster, only.kind, namespace, selector, only.names, shown)
            return
        found = [(each.kind, read(cluster, each, namespace, selector)) for each in wanted]
        if output in (Form.JSON, Form.YAML):
            _documents(found, output, single=names and len(found) == 1 and len(found[0][1]) == 1)
        elif output is Form.NAME:
            for kind, objects in found:
                for each in objects:
                    typer.echo(kind.printed(each["metadata"]["name"]))
        else:
            live = _live(access, cluster, namespace) if output is Form.WIDE else None
            _tables(found, namespace, live, wide=output is Form.WIDE, headers=not no_headers)


def chosen(words: Sequence[str]) -> list[Wanted]:
    """Read ``tasks``, ``tasks,images``, ``task a b`` or ``task/a image/b``. Raises :class:`typer.BadParameter`."""
    if "/" not in words[0]:
        return [Wanted(kind, tuple(words[1:])) for word in words[0].split(",") for kind in _kinds(word)]
    names: dict[ResourceKind, list[str]] = {}
    for kind, name in several(words):
        names.setdefault(kind, []).append(name)
    return [Wanted(kind, tuple(found)) for kind, found in names.items()]


def _kinds(word: str) -> Sequence[ResourceKind]:
    if word == "all":
        return (TASK, IMAGE)
    kind = kinds.named(word)
    if kind is None:
        raise typer.BadParameter(f"{word!r} is not a type. Use tasks, images, peers or all.")
    return (kind,)


def read(cluster: Cluster, wanted: Wanted, namespace: str | None, selector: str = "") -> list[Resource]:
    if wanted.names:
        return [cluster.get(wanted.kind, namespace or "", name) for name in wanted.names]
    return cluster.objects(wanted.kind, namespace, selector)


def table(
    kind: ResourceKind, objects: Iterable[Resource], live: Console | None, *, namespaces: bool, wide: bool
) -> Table:
    """The table of one kind. ``live`` replaces the rows for which the console has newer facts."""
    if kind == PEER:
        known = {peer.name: peer for peer in live.peers} if live else {}
        listed = list(objects)
        drained = {each["metadata"]["name"] for each in listed if (each.get("spec") or {}).get("unschedulable")}
        shown = [known.get(peer.name, peer) for peer in map(resources.peer, listed)]
        return tables.peers(shown, drained, wide=wide)
    tasks = {(task.kind, task.namespace, task.name): task for task in live.tasks} if live else {}
    found = [resources.summary(each, kind) for each in objects]
    merged: list[TaskSummary] = [tasks.get((task.kind, task.namespace, task.name), task) for task in found]
    show = tables.images if kind == IMAGE else tables.tasks
    return show(merged, time.time(), namespaces=namespaces, wide=wide)


def _live(access: UserAccess, cluster: Cluster, namespace: str | None) -> Console | None:
    try:
        with access.console(cluster) as client:
            return client.console(namespace or "", limit=MOST_TASKS)
    except CLIError as error:
        terminal.note(f"note: {error} Rates and times are missing.")
        return None


def _documents(found: Sequence[tuple[ResourceKind, list[Resource]]], form: Form, *, single: bool) -> None:
    objects = [each for _, several_ in found for each in several_]
    terminal.document(objects[0] if single else terminal.listed(objects), form)


def _tables(
    found: Sequence[tuple[ResourceKind, list[Resource]]],
    namespace: str | None,
    live: Console | None,
    *,
    wide: bool,
    headers: bool,
) -> None:
    shown = [(kind, objects) for kind, objects in found if objects]
    if not shown:
        where = f" in namespace {namespace}" if namespace and any(kind.namespaced for kind, _ in found) else ""
        terminal.note(f"No {' and no '.join(kind.many for kind, _ in found)}{where}.")
    for number, (kind, objects) in enumerate(shown):
        if number:
            typer.echo()
        content = table(kind, objects, live, namespaces=namespace is None and kind.namespaced, wide=wide)
        content.show_header = headers
        terminal.show(content)


def _printer(form: Form, namespaces: bool, *, headers: bool) -> Callable[[ResourceKind, list[Resource]], Table | str]:
    """How a watch shows objects."""

    def show(kind: ResourceKind, objects: list[Resource]) -> Table | str:
        if form is Form.NAME:
            return "\n".join(kind.printed(each["metadata"]["name"]) for each in objects)
        if form in (Form.JSON, Form.YAML):
            start = "---\n" if form is Form.YAML else ""  # a stream of YAML needs a line between two documents
            return "\n".join(f"{start}{terminal.text(each, form)}" for each in objects)
        content = table(kind, objects, None, namespaces=namespaces and kind.namespaced, wide=form is Form.WIDE)
        content.show_header = headers
        return content

    return show
