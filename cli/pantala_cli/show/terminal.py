"""Prints to the terminal as kubectl does: whole lines, and colours only on a terminal."""

import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Self

import typer
import yaml
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from pantala_cli.show import columns
from pantala_cli.show.words import printable

_WIDEST = 100_000
_CONTROL = re.compile(r"[\x7f-\x9f]")


def console() -> Console:
    """A console without any style for pipes, for ``NO_COLOR`` and for ``TERM=dumb``."""
    usual = partial(Console, file=sys.stdout, highlight=False, markup=False, emoji=False)
    if usual().is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb":
        return usual()
    return usual(color_system=None, no_color=True, force_terminal=False)


def show(content: RenderableType) -> None:
    """Print content. Tables have their full width, and the terminal wraps long lines."""
    shown = console()
    screen = shown.width
    lines: list[str] = []
    for part in _parts(content):
        if isinstance(part, Table) and columns.is_plain(part):
            lines += columns.lines(part, _painter(shown))
            continue
        shown.width = _width(shown, part, screen)
        lines += [line.rstrip() for line in _drawn(shown, part).splitlines()]
    typer.echo(printable("\n".join(lines), styled=shown.is_terminal), color=True)


def _painter(shown: Console) -> columns.Paint:
    """Draws each style once, and then repeats its codes."""
    codes: dict[str, tuple[str, str]] = {}

    def paint(text: Text) -> str:
        style = str(text.style)
        if style not in codes:
            before, _, after = _drawn(shown, Text("x", style)).rstrip("\n").partition("x")
            codes[style] = before, after
        before, after = codes[style]
        return f"{before}{text.plain}{after}"

    return paint


def _drawn(shown: Console, part: RenderableType) -> str:
    with shown.capture() as capture:
        shown.print(part)
    return capture.get()


def _parts(content: RenderableType) -> Iterable[RenderableType]:
    if isinstance(content, Group):
        for part in content.renderables:
            yield from _parts(part)
    else:
        yield content


def _width(shown: Console, part: RenderableType, screen: int) -> int:
    """The width at which no name is cut. Columns that may wrap keep to the terminal."""
    whole = Measurement.get(shown, shown.options.update(width=_WIDEST), part)
    return max(whole.minimum, screen) if shown.is_terminal else max(whole.maximum, 1)


def note(text: str) -> None:
    """Print a note to stderr."""
    typer.echo(printable(text), err=True)


def text(content: Any, form: str) -> str:
    """An object as JSON or YAML."""
    if form == "yaml":
        return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True)).rstrip()
    return escaped(json.dumps(content, indent=4, ensure_ascii=False))


def escaped(document: str) -> str:
    """A JSON document without control characters. JSON allows some of them, and a terminal obeys them."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


def document(content: Any, form: str) -> None:
    typer.echo(text(content, form))


def listed(items: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Objects as one List, as kubectl prints them."""
    return {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": list(items)}


def beats(every: float) -> Iterator[None]:
    """Yield at once, and then each ``every`` seconds. The time of the caller's work is part of these seconds."""
    following = time.monotonic()
    while True:
        yield
        following = max(following + every, time.monotonic() - every)
        time.sleep(max(following - time.monotonic(), 0.0))


class Screen:
    """Shows one output after the other: in place on a terminal, otherwise below each other."""

    def __init__(self) -> None:
        shown = console()
        self._live = Live(console=shown, auto_refresh=False, vertical_overflow="crop") if shown.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, content: RenderableType) -> None:
        if self._live is not None:
            self._live.update(content, refresh=True)
        else:
            show(content)
            sys.stdout.flush()
