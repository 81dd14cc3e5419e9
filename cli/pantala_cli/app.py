"""The commands of ``kubectl pantala``, and their common options and errors."""

import contextlib
import functools
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from pantala_cli.access.options import VALUED, connected
from pantala_cli.commands import (
    aliases,
    completion,
    control,
    creation,
    doctor,
    explain,
    get,
    nodes,
    plan,
    programs,
    top,
    waiting,
)

_EPILOG = "Exit codes: 0 success, 1 failed or not ready, 2 invalid usage, 3 not reachable, 4 forbidden, 130 Ctrl-C."


COMMANDS = (
    get.get, top.top, explain.explain,
    plan.plan, creation.prefetch, creation.fetch, waiting.wait,
    control.retry, control.suspend, control.resume, nodes.drain,
    doctor.doctor, programs.logs, programs.ui, programs.version,
    aliases.status, aliases.peers,
)  # fmt: skip
"""In the order of the help."""


_NO_FILES, _FILES = ":4", ":0"
"""What the shell does after the words: complete no files, or complete files too."""


class HabitGroup(TyperGroup):
    """Accepts ``-n`` and the other options of the connection before the command too, as kubectl does."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        rest, moved = list(args), []
        while rest and (count := _words(rest)):
            moved += rest[:count]
            del rest[:count]
        return super().parse_args(ctx, rest[:1] + moved + rest[1:] if rest else args)


def _words(args: list[str]) -> int:
    """The number of words at the start of ``args`` that are an option of the connection. 0: no option."""
    first = args[0]
    if first in VALUED:
        return 2
    short = first.startswith("-n") and not first.startswith("--")
    return int(short or (first.startswith("--") and first.partition("=")[0] in VALUED))


def build() -> typer.Typer:
    """All commands, in the order of the help."""
    app = typer.Typer(
        name="kubectl-pantala",
        cls=HabitGroup,
        help="Show and control Pantala, with the permissions of your kubeconfig.",
        epilog=_EPILOG,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    for command in COMMANDS:
        app.command()(connected(command))
    app.command()(completion.completion)
    return app


@functools.cache
def program() -> Any:
    """All commands as one callable. Its class is private to typer."""
    return typer.main.get_command(build())


def complete() -> None:
    """Run ``kubectl_complete-pantala``: kubectl gives the words after ``kubectl pantala``."""
    given = sys.argv[1:]
    with contextlib.suppress(BrokenPipeError):
        for word in completion.words(program(), given):
            print(word)
        print(_FILES if given[:1] == ["plan"] else _NO_FILES)
