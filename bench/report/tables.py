"""The results as tables: for a terminal, and as Markdown for documents."""

import re
from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from bench.errors import BenchError
from bench.report.results import Document, Result, Row
from bench.scenario import Scenario


def table(result: Result, scenario: Scenario) -> Table:
    """A table for a terminal, with a line for each case."""
    shown = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    titles, lines = cells(result.rows, scenario)
    for title in titles:
        shown.add_column(escape(title), no_wrap=True)
    for line in lines:
        shown.add_row(*(escape(text) for text in line))
    return shown


def markdown(document: Document, scenarios: Sequence[Scenario]) -> str:
    """All results as Markdown. Each table stands below the name of its scenario and its legend."""
    blocks = [f"Machine: {document.machine}."]
    for scenario in scenarios:
        for result in document.results:
            if result.scenario == scenario.name:
                blocks += [f"## {scenario.name}", scenario.legend(result.plan), markdown_table(result, scenario)]
    return "\n\n".join(blocks) + "\n"


def markdown_table(result: Result, scenario: Scenario) -> str:
    """A table of Markdown, with a line for each case."""
    titles, lines = cells(result.rows, scenario)
    rows = [titles, ["---"] * len(titles), *lines]
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in rows)


def cells(rows: Sequence[Row], scenario: Scenario) -> tuple[list[str], list[list[str]]]:
    """The titles and the lines of a table. A column without any value is left out."""
    titles = [column.title for column in scenario.columns]
    lines = [[column.text(row) for column in scenario.columns] for row in rows]
    targets = [scenario.target(row) for row in rows]
    if any(targets):
        titles.append("target")
        lines = [[*line, target] for line, target in zip(lines, targets, strict=True)]
    used = [number for number in range(len(titles)) if any(line[number] for line in lines)]
    return [titles[number] for number in used], [[line[number] for number in used] for line in lines]


def progress(row: Row, scenario: Scenario) -> str:
    """One run as a line of text."""
    texts = ((column.title, column.text(row)) for column in scenario.columns if "_min" not in column.template)
    return f"{scenario.name}: " + ", ".join(f"{title} {text}" for title, text in texts if text)


def fill(page: str, document: Document, scenarios: Sequence[Scenario]) -> str:
    """The page with the tables between ``<!-- bench NAME -->`` and ``<!-- /bench -->`` replaced by the results.

    Raises :class:`BenchError` if a result has no place in the page.
    """
    for scenario in scenarios:
        for result in document.results:
            if result.scenario == scenario.name:
                page = _fill_one(page, document, result, scenario)
    return page


def _fill_one(page: str, document: Document, result: Result, scenario: Scenario) -> str:
    place = re.compile(rf"(<!-- bench {scenario.name} -->\n).*?(<!-- /bench -->)", re.DOTALL)
    runs = max((row.count for row in result.rows), default=0)
    number = "One run" if runs == 1 else f"Medians of {runs} runs"
    text = f"{number}. {document.machine}.\n\n{markdown_table(result, scenario)}\n"
    filled, found = place.subn(lambda match: match[1] + text + match[2], page)
    if not found:
        raise BenchError(f"The page has no place for {scenario.name}: no line is <!-- bench {scenario.name} -->.")
    return filled
