"""``python -m bench [SCENARIO ...]`` measures Pantala. ``python -m bench report FILE ...`` prints results as Markdown.

JSON goes to the standard output or to ``--json``, progress and tables go to the standard error.
"""

import argparse
import contextlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import msgspec
from rich.console import Console

from bench.arguments import number
from bench.catalog import DEFAULT, SCENARIOS
from bench.errors import BenchError
from bench.report import svg
from bench.report.results import Document, Machine, Result, read
from bench.report.tables import fill, markdown, progress, table
from bench.scenario import Scenario
from bench.usage import CALM, wait_calm
from testbed.cluster.command import CommandError
from testbed.registry import RegistryError

_FAILURES = (BenchError, CommandError, RegistryError, OSError, msgspec.MsgspecError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code. 0: done, 1: a run failed or had a wrong file, 2: not possible here, 130: interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    console = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 300)
    try:
        if given[:1] == ["report"]:
            return _report(_report_parser().parse_args(given[1:]))
        return _measure(_parser().parse_args(given), console)
    except _FAILURES as error:
        console.print(f"python -m bench: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted", style="red")
        return 130


def _measure(options: argparse.Namespace, console: Console) -> int:
    chosen = [SCENARIOS[name] for name in dict.fromkeys(options.scenarios or DEFAULT)]
    lacking = [f"{scenario.name} cannot run here: {why}" for scenario in chosen if (why := scenario.lacks())]
    if lacking:
        console.print("\n".join(lacking), style="red", markup=False, soft_wrap=True)
        return 2
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _interrupt)
    document = Document(Machine.this())
    failed = 0
    try:
        for scenario in chosen:
            failed += _run(scenario, options, document, console)
    finally:
        _show(document, options, console)
    return 1 if failed else 0


def _run(scenario: Scenario, options: argparse.Namespace, document: Document, console: Console) -> int:
    """Measure one scenario, and return how many runs failed. The document has each run from its end on."""
    result = Result(scenario.name, scenario.plan(options))
    document.results.append(result)
    failed = 0
    with contextlib.closing(scenario.runs(options)) as runs:
        for run in runs:
            load = wait_calm(options.calm) if options.calm else 0.0
            if load >= CALM:
                console.print(f"Other processes still use {load:.2f} cores after {options.calm} s.", style="yellow")
            try:
                sample = run()
            except _FAILURES as error:
                failed += 1
                console.print(f"A run of {scenario.name} failed: {error}", style="red", markup=False, soft_wrap=True)
                continue
            row = result.add(sample.case, sample.values)
            console.print(progress(row, scenario), markup=False, soft_wrap=True)
            if options.json is not None:
                document.write(options.json)
    return failed


def _show(document: Document, options: argparse.Namespace, console: Console) -> None:
    for result in document.results:
        if result.rows:
            scenario = SCENARIOS[result.scenario]
            runs = max(row.count for row in result.rows)
            console.print(f"\n{scenario.legend(result.plan)} Medians of {runs}.", markup=False, soft_wrap=True)
            console.print(table(result, scenario))
    if options.json is None:
        sys.stdout.write(document.encoded().decode())
    _plot(document, options.plot)


def _report(options: argparse.Namespace) -> int:
    document = read(options.files)
    _plot(document, options.plot)
    scenarios = list(SCENARIOS.values())
    if options.into is None:
        print(markdown(document, scenarios), end="")
    else:
        options.into.write_text(fill(options.into.read_text(), document, scenarios))
    return 0


def _plot(document: Document, path: Path | None) -> None:
    if path is not None:
        charts = [chart for result in document.results for chart in SCENARIOS[result.scenario].charts(result)]
        path.write_text(svg.render(charts))


def _parser() -> argparse.ArgumentParser:
    lines = "\n".join(f"  {name:10} {scenario.summary}" for name, scenario in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=f"{__doc__}\nscenarios, by default {' '.join(DEFAULT)}:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenarios", nargs="*", type=_scenario, metavar="SCENARIO", help="what to measure")
    parser.add_argument("--runs", type=number(100), default=3, metavar="N", help="runs of each case (3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here after each run")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a plot of the medians as SVG")
    parser.add_argument(
        "--calm", type=int, default=60, metavar="SECONDS",
        help=f"longest wait before a run until other processes use less than {CALM} cores; 0: do not wait (60)",
    )  # fmt: skip
    for scenario in SCENARIOS.values():
        scenario.add_options(parser.add_argument_group(scenario.name))
    return parser


def _report_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench report",
        description="Join JSON files of the bench, and print the medians as tables of Markdown.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument(
        "--into", type=Path, metavar="PAGE",
        help="instead of printing: replace the tables of this page, which stand below <!-- bench SCENARIO -->",
    )  # fmt: skip
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a plot of the medians as SVG")
    return parser


def _scenario(text: str) -> str:
    if text not in SCENARIOS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a scenario. Choose from {', '.join(SCENARIOS)}")
    return text


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
