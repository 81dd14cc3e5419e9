"""Writes ``docs/reference/commands.md`` from the commands of ``kubectl pantala``. ``python -m handbook.commands``."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from pantala_cli.app import build

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "commands.md"

_START = """\
<!-- Written by handbook/commands.py from the commands of kubectl pantala: run `make pages`. -->

# Commands of kubectl pantala

`kubectl pantala COMMAND --help` shows the same texts.

"""
_TYPE = re.compile(r" <(?:str|list\[str\])>")
"""The type that typer adds to an argument's name."""


def commands() -> Iterator[tuple[str, Any]]:
    """Each command with its name, in the order of the help."""
    group: Any = typer.main.get_command(build())
    yield from ((name, command) for name, command in group.commands.items() if not command.hidden)


def page() -> str:
    """The whole page."""
    listed = list(commands())
    text = _START + "| command | what it does |\n|---|---|\n"
    text += "".join(
        f"| [`{name}`](#{name}) | {_cell(command.get_short_help_str(limit=200))} |\n" for name, command in listed
    )
    for name, command in listed:
        context = command.make_context(name, [], resilient_parsing=True)
        usage = " ".join(("kubectl pantala", name, *command.collect_usage_pieces(context)))
        text += f"\n## {name}\n\n```text\n{usage}\n```\n\n"
        text += "\n\n".join(_paragraphs(command.help or "")) + "\n\n"
        records = [each.get_help_record(context) for each in command.params if not getattr(each, "hidden", False)]
        text += "| argument or option | meaning |\n|---|---|\n"
        rows = ((_TYPE.sub("", names), meaning) for names, meaning in filter(None, records))
        text += "".join(f"| `{_cell(names)}` | {_cell(meaning)} |\n" for names, meaning in rows)
    return text


def _paragraphs(text: str) -> Iterator[str]:
    for part in text.replace("\b", "").split("\n\n"):
        lines = part.strip("\n")
        if lines.startswith(" "):
            yield f"```text\n{lines}\n```"
        elif lines.strip():
            yield " ".join(lines.split())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def main() -> None:
    """Write the page."""
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
