"""``top``: live bars of all unfinished work, or of all nodes."""

import sys
import time
from collections.abc import Callable
from typing import Annotated

import msgspec
import typer
from rich.console import RenderableType

from pantala_cli.access import targets
from pantala_cli.access.console import ConsoleClient
from pantala_cli.access.kinds import IMAGE, TASK
from pantala_cli.access.options import UserAccess
from pantala_cli.errors import ConsoleError, ForeignLabelsError, ObjectMissingError, UnreachableError
from pantala_cli.show import bars, terminal
from pantala_protocol.console.views import MOST_TASKS, Console, TaskDetail

_DETAILED = 5
"""The most Tasks whose nodes are shown, unless the user names the Tasks."""
_LISTED = 100
"""The most Tasks in the list."""
_NODES = 10
"""The most nodes that are shown of each Task."""
_PAUSE = 2.0
"""Seconds before another attempt to connect."""

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="nodes|TYPE/NAME",
        help="nodes: the rates of all nodes. TYPE/NAME: one object. Default: all unfinished work.",
        show_default=False,
    ),
]
Once = Annotated[bool, typer.Option("--once", help="Print one sample and end.")]
Interval = Annotated[float, typer.Option("--interval", metavar="SECONDS", min=0.2, help="Seconds between two samples.")]
Output = Annotated[str, typer.Option("--output", "-o", metavar="json", help="json: one line of JSON for each sample.")]
AllNamespaces = Annotated[bool, typer.Option("--all-namespaces", "-A", help="All namespaces, which is the default.")]


def top(
    access: UserAccess,
    what: Words = None,
    once: Once = False,
    interval: Interval = 1.0,
    all_namespaces: AllNamespaces = False,
    output: Output = "",
) -> None:
    """Show progress, rates and the time left of unfinished work. Runs until Ctrl-C."""
    if output not in ("", "json"):
        raise typer.BadParameter(f"-o {output} is not a format of top. Use -o json.")
    sample = _Sample(what or [], "" if all_namespaces else access.namespace)
    if once:
        with access.console() as client:
            _print(sample, client, output)
        return
    if output:
        follow(access, interval, lambda client: _print(sample, client, output))
    else:
        with terminal.Screen() as screen:
            follow(access, interval, lambda client: screen.show(sample.picture(client)))


def follow(access: UserAccess, interval: float, take: Callable[[ConsoleClient], None]) -> None:
    """Ask the console until Ctrl-C. If the console is lost, connect again: another operator may lead now."""
    beats, taken = terminal.beats(interval), False
    while True:
        try:
            with access.console() as client:
                for _ in beats:
                    take(client)
                    taken = True
        except (ConsoleError, ForeignLabelsError, UnreachableError) as error:
            if not taken:
                raise
            terminal.note(f"note: {error} Connecting again.")
            time.sleep(_PAUSE)


def _print(sample: "_Sample", client: ConsoleClient, output: str) -> None:
    if not output:
        terminal.show(sample.picture(client))
        return
    console, details = sample.read(client)
    typer.echo(terminal.escaped(msgspec.json.encode({"console": console, "details": list(details.values())}).decode()))
    sys.stdout.flush()


class _Sample:
    """The requests to the console for each sample."""

    def __init__(self, words: list[str], namespace: str) -> None:
        self._nodes = words in (["nodes"], ["node"], ["peers"])
        self._target = targets.work([targets.one(words)])[0] if words and not self._nodes else None
        self._namespace = namespace

    def read(self, client: ConsoleClient) -> tuple[Console, dict[bars.Key, TaskDetail]]:
        whole = self._target is not None
        console = client.console(self._namespace, unfinished=not whole, limit=MOST_TASKS if whole else _LISTED)
        if self._nodes:
            return console, {}
        if self._target is not None:
            kind, name = self._target
            named = tuple(task for task in console.tasks if (task.kind, task.name) == (kind.kind, name))
            if not named:
                raise ObjectMissingError(
                    f"{kind.kind} {name} is not known to the console. "
                    "List all with kubectl pantala get tasks,images -A."
                )
            console = msgspec.structs.replace(console, tasks=named, omitted=0)
        details = {}
        for task in console.tasks[:_DETAILED]:
            kind = IMAGE if task.kind == IMAGE.kind else TASK
            try:
                details[bars.key(task)] = client.detail(kind, task.namespace, task.name)
            except ObjectMissingError:
                continue  # the object was deleted meanwhile
        return console, details

    def picture(self, client: ConsoleClient) -> RenderableType:
        console, details = self.read(client)
        shown = terminal.console()
        screen = shown.width if shown.is_terminal else 0
        if self._nodes:
            return bars.nodes(console, screen=screen)
        return bars.tasks(console, details, most=_NODES if self._target is None else sys.maxsize, screen=screen)
