"""``python -m demo``: shows Pantala's main job on this machine, or on a cluster, in under a minute.

Exit codes: 0 if every node has the file and the origin sent it once, 1 if not, 130 after Ctrl-C.
"""

import argparse
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console

from demo import payload as payloads
from demo import story, summary
from demo.errors import DemoError
from demo.local import NODES, LocalPlace
from demo.place import Place
from demo.remote import RemotePlace
from demo.screen import Screen, megabytes
from pantala_cli.errors import CLIError
from testbed.binaries import BuildError, assets

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return the exit code."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False)
    for each in _SIGNALS:
        signal.signal(each, _interrupt)
    try:
        with tempfile.TemporaryDirectory(prefix="pantala-demo-") as folder:
            return _run(options, Path(folder), Screen(console))
    except (DemoError, CLIError, BuildError) as error:
        console.print(f"The demo failed: {error}", style="red", markup=False, soft_wrap=True)
        if isinstance(error, DemoError) and error.log:
            console.print(error.log, markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("Interrupted. All processes and files of the demo are removed.")
        return 130


def _run(options: argparse.Namespace, folder: Path, screen: Screen) -> int:
    payload = payloads.choose([assets(["kube-apiserver"])["kube-apiserver"]] if not options.cluster else [], folder)
    what = "generated" if payload.generated else str(payload.path)
    screen.say(f"the file: {what}, {megabytes(payload.size)}, sha256:{payload.sha256[:16]}…")
    chosen: Place = RemotePlace(options.origin_host, screen.say) if options.cluster else LocalPlace(folder, screen.say)
    screen.say(chosen.title)
    with chosen as place, _undisturbed_end():
        result = story.tell(place, payload, screen)
        summary.show(screen.console, payload, result, kept=options.keep)
        wrong = story.faults(result, payload, 1 if options.cluster else len(NODES))
        if wrong:
            raise DemoError("; ".join(wrong), place.log("supernode"))
        screen.console.print("[bold green]Right: each node has the file, and the origin sent it once.[/]")
        screen.console.print()
        screen.say("what to try next in another terminal:" if options.keep else "what to try next:")
        for line in summary.next_steps(place, kept=options.keep, task=result.task["metadata"]["name"]):
            screen.console.print(f"    {line}", markup=False, soft_wrap=True)
        if options.keep:
            screen.say(f"the processes run until Ctrl-C here, or kill {os.getpid()} in another terminal")
            screen.say("both delete everything")
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
            screen.say("stopping all processes and deleting their files")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m demo", description="Distribute a real file, and show where its bytes went."
    )
    parser.add_argument("--keep", action="store_true", help="keep the processes running until Ctrl-C")
    parser.add_argument(
        "--cluster", action="store_true", help="use the cluster of KUBECONFIG, with the chart installed"
    )
    parser.add_argument(
        "--origin-host", default="", help="with --cluster: the address at which nodes reach this machine"
    )
    return parser


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    _ignore_signals()
    raise KeyboardInterrupt


def _ignore_signals() -> None:
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)


@contextlib.contextmanager
def _undisturbed_end() -> Iterator[None]:
    """Ignore signals after the block: a second Ctrl-C must not interrupt the clean-up."""
    try:
        yield
    finally:
        _ignore_signals()


if __name__ == "__main__":
    sys.exit(main())
