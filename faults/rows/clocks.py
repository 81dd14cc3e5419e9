"""Clocks that are wrong, and that jump."""

import asyncio
import contextlib
import os
import sys
import time
from pathlib import Path

from faults.row import Case, Plan, Row, Tally
from pantala_protocol import task_id
from pantala_protocol.statement import WantedTask
from testbed.origin import Behaviour, Generated, Origin
from testbed.process import Process
from tests.support.eventually import eventually
from tests.support.peer_lab import python_path
from tests.support.supernode_lab import SupernodeProcess

SIZE = 6 * 1024 * 1024 + 3
PEERS = ("node-1", "node-2", "node-3")
JUMPS = (-86_400, -3_600, -60, 0, 1, 60, 3_600, 86_400)


class Clocks:
    """The files with the errors of the processes' clocks."""

    def __init__(self, folder: Path, case: Case) -> None:
        self._folder = folder
        self._case = case
        folder.mkdir(parents=True)
        for name in ("supernode", *PEERS):
            self.jump(name)

    def wrapper(self, name: str) -> tuple[str, str]:
        return "faults.shifted_clock", str(self._folder / name)

    def jump(self, name: str) -> None:
        temporary = self._folder / ".new"
        temporary.write_text(str(self._case.chance.choice(JUMPS)))
        temporary.replace(self._folder / name)


async def jumps(plan: Plan, tally: Tally) -> None:
    """Let the clocks of a supernode and three peers be wrong by up to a day, and jump while they work."""
    for case in plan.cases():
        folder = plan.folder / str(case.number)
        clocks, body = Clocks(folder / "clocks", case), Generated(SIZE, seed=case.number)
        async with Origin() as origin, SupernodeProcess(folder / "supernode") as supernode:
            origin.serve("/f", body, always=Behaviour(rate=4 * 1024 * 1024))
            supernode.spawn(*clocks.wrapper("supernode"))
            with contextlib.ExitStack() as stack:
                for name in PEERS:
                    stack.enter_context(_peer(supernode.url, folder / name, name, clocks))
                await _one(case, tally, clocks, supernode, origin, body, folder)


def _peer(url: str, root: Path, name: str, clocks: Clocks) -> Process:
    root.parent.mkdir(parents=True, exist_ok=True)
    flags = ("--supernode", url, "--listen", "127.0.0.1:0", "--root", str(root), "--name", name)
    command = (sys.executable, "-m", *clocks.wrapper(name), "pantala_peer", *flags)
    return Process(command, root.with_suffix(".log"), {**os.environ, "PYTHONPATH": python_path()})


async def _one(
    case: Case, tally: Tally, clocks: Clocks, supernode: SupernodeProcess, origin: Origin, body: Generated, folder: Path
) -> None:
    await eventually(supernode.is_ready, within=30, ignoring=OSError)
    url = origin.url("/f")
    await supernode.state(WantedTask("u", "ns/n", task_id.compute(url), url, path="ns/f", peers=PEERS))
    begun = time.monotonic()
    published = [folder / name / "files/ns/f" for name in PEERS]
    while not all(path.exists() for path in published) and time.monotonic() - begun < 60:
        clocks.jump(case.chance.choice(("supernode", *PEERS)))
        tally.add(jumps=1)
        await asyncio.sleep(case.chance.uniform(0.1, 0.4))
    tally.measure("seconds_until_all_have_it", time.monotonic() - begun)
    right = [path.exists() and path.read_bytes() == body.read(0, SIZE) for path in published]
    tally.check(all(right), f"after 60 s, {right.count(False)} of {len(PEERS)} peers do not have the file", case)
    tally.check(origin.body_bytes("/f") == SIZE, f"the origin sent {origin.body_bytes('/f')} bytes", case)
    tally.add(swarms=1)


ROWS = (
    Row("clock-jumps", "the clocks of supernode and peers are wrong by up to a day and jump several times a second",
        "Every peer publishes the right file, and the origin is read once.", ("F15",), 20, 1, "swarms", jumps),
)  # fmt: skip
