"""Draws plain tables of any length. rich measures each cell several times: seconds for 5,000 lines. Pure."""

from collections.abc import Callable, Iterator

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

_GAP = "   "

Paint = Callable[[Text], str]
"""Returns a text with the codes of its style."""


def is_plain(table: Table) -> bool:
    """True if no cell wraps, and each is a text."""
    return all(
        column.no_wrap and all(isinstance(cell, str | Text) for cell in column.cells) for column in table.columns
    )


def widths(table: Table) -> list[int]:
    """The width of each column, so that all its cells fit."""
    return [
        max([column.min_width or 0, *(cell_len(_text(cell)) for cell in (column.header, *column.cells))])
        for column in table.columns
    ]


def lines(table: Table, paint: Paint) -> Iterator[str]:
    """The lines of a plain table, with its heading if the table shows a heading."""
    wide = widths(table)
    if table.show_header:
        yield _line([column.header for column in table.columns], wide, paint)
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        yield _line(list(cells), wide, paint)


def _line(cells: list[object], wide: list[int], paint: Paint) -> str:
    padded = []
    for cell, width in zip(cells, wide, strict=True):
        shown = paint(Text(_text(cell), cell.style)) if isinstance(cell, Text) and cell.style else _text(cell)
        padded.append(shown + " " * (width - cell_len(_text(cell))))
    return _GAP.join(padded).rstrip()


def _text(cell: object) -> str:
    text = cell.plain if isinstance(cell, Text) else str(cell)
    return text.replace("\n", " ")  # one object is one line
