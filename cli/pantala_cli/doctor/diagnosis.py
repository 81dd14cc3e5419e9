"""The result of one check. Pure."""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from rich.table import Table
from rich.text import Text

from pantala_cli.show.words import together

_STYLES = {"ok": "green", "warning": "yellow", "failed": "red"}


class Level(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


class Diagnosis(NamedTuple):
    """One finding of a check."""

    check: str
    level: Level
    message: str
    action: str = ""
    """What to do next, as a sentence. Empty: nothing to do."""


def ok(check: str, message: str) -> Diagnosis:
    return Diagnosis(check, Level.OK, message)


def warning(check: str, message: str, action: str) -> Diagnosis:
    return Diagnosis(check, Level.WARNING, message, action)


def failed(check: str, message: str, action: str) -> Diagnosis:
    return Diagnosis(check, Level.FAILED, message, action)


def grouped(check: str, level: Level, found: Iterable[tuple[str, str]], action: str) -> list[Diagnosis]:
    """One finding for each message, with the nodes that have it: pairs of a node and its message.

    The word NODE in ``action`` stands for the first of these nodes.
    """
    pairs = list(found)
    first: dict[str, str] = {}
    for node, message in pairs:
        first.setdefault(message, node)
    return [
        Diagnosis(check, level, message, action.replace("NODE", node))
        for message, node in zip(together(pairs), first.values(), strict=True)
    ]


def picture(findings: Iterable[Diagnosis]) -> Table:
    """A line for each finding. The line below has the next step."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for each in findings:
        table.add_row(Text(each.level, _STYLES[each.level]), each.check, Text(each.message))
        if each.action:
            table.add_row("", "", Text.assemble(("next: ", "bold"), each.action))
    return table
