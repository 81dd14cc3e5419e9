"""Writes ``docs/reference/flags.md`` from the parsers of all processes.

``python -m handbook.flags`` writes the page. With ``--check`` it ends with status 1 if the page differs.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pantala_operator.settings
import pantala_peer.settings
import pantala_runtime.settings
import pantala_supernode.settings
from pantala_peer.containerd import command
from pantala_process import settings
from pantala_process.settings import Flag

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "flags.md"

_START = """\
<!-- Written by handbook/flags.py from the parsers of the processes: run `make pages`. -->

# Flags

Each flag has an environment variable. A flag overrides its variable, and an empty value counts as not given. After an
invalid value, the process prints one line and exits with code 2. The chart sets most flags from its
[values](values.md). Set all other flags with `extraArgs` or `extraEnv` of the component.

All programs also have the flags `--help` and `--version`.
"""


class Program(NamedTuple):
    """The parser of one program."""

    name: str
    description: str
    flags: Mapping[str, Flag]


class _SeenError(Exception):
    """Ends a program as soon as its parser is known."""

    def __init__(self, program: Program) -> None:
        super().__init__(program.name)
        self.program = program


def programs() -> Iterator[Program]:
    """The parsers of all programs. Each comes from the call with which the program reads its flags."""
    with _recording():
        for module in (pantala_operator, pantala_supernode, pantala_peer, pantala_runtime):
            yield _parser(lambda module=module: module.settings.parse((), {}))  # type: ignore[misc]
        for name in ("configure", "watch", "cleanup"):
            yield _parser(lambda name=name: command.main([name]))  # type: ignore[misc]


@contextmanager
def _recording() -> Iterator[None]:
    def parse(
        known: Mapping[str, Flag], arguments: object, environment: object, *, program: str, description: str
    ) -> NoReturn:
        raise _SeenError(Program(program, description, known))

    former: Any = settings.parse
    settings.parse = parse
    try:
        yield
    finally:
        settings.parse = former


def _parser(start: Callable[[], object]) -> Program:
    try:
        start()
    except _SeenError as seen:
        return seen.program
    raise AssertionError("the program reads no flags")


def page() -> str:
    """The whole page."""
    text = _START
    for program in programs():
        text += f"\n## {program.name}\n\n{program.description}\n\n"
        text += "| flag | environment variable | meaning |\n|---|---|---|\n"
        text += "".join(_row(name, flag) for name, flag in program.flags.items())
    return text


def _row(name: str, flag: Flag) -> str:
    option = f"--{name.replace('_', '-')}" + (f" {flag.metavar}" if flag.metavar else "")
    cells = (f"`{option}`", f"`PANTALA_{name.upper()}`", flag.meaning)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def main() -> int:
    """Write the page, or check it."""
    text = page()
    if "--check" in sys.argv[1:]:
        stale = not PAGE.exists() or PAGE.read_text() != text
        print(f"{PAGE.name} differs from the parsers: run make pages" if stale else "the page of flags is up to date")
        return int(stale)
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
