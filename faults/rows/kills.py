"""Processes that die at random times and at chosen changes of the disk."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable

import aiohttp

from faults.row import Case, Plan, Row, Tally
from testbed.origin import Origin
from tests.support.eventually import eventually
from tests.support.kill_lab import BODY, CONTENT, MIB, PIECE, Node, fetched, flip, harm, wanted
from tests.support.peer_lab import PeerLab
from tests.support.scripted_files import File, content
from tests.support.scripted_supernode import PUBLISHED, ScriptedSupernode

KILLS = 5
"""The kills of one process on one volume. After them it finishes its work."""
SERVING = 5.0
"""Seconds from the start of a process until it serves again."""
_GONE = (aiohttp.ClientError, OSError, TimeoutError)


def crash_point(chance: random.Random, folder: str) -> tuple[str, ...]:
    """The wrapper of a process that dies at a chosen change of its disk. Early changes are as likely as late ones."""
    at = round(2 ** chance.uniform(0, 6))
    return ("faults.crash_point", str(at), chance.choice(["before", "inside", "after"]), folder)


async def supernode(plan: Plan, tally: Tally) -> None:
    """Kill a supernode that reads an origin for a peer."""
    for case in plan.cases(KILLS):
        async with Origin() as origin, Node(plan.folder / str(case.number)) as node:
            origin.rate = 6 * MIB
            origin.serve("/f", BODY)
            life = _SupernodeLife(node, origin, case, tally)
            for kill in range(KILLS):
                await life.killed(chosen=(kill + case.number) % 2 == 1)
            await life.finished()


class _SupernodeLife:
    """One volume, and the processes that use it one after the other."""

    def __init__(self, node: Node, origin: Origin, case: Case, tally: Tally) -> None:
        self._node, self._origin, self._case, self._tally = node, origin, case, tally

    async def killed(self, *, chosen: bool) -> None:
        """Start a process, and let it die."""
        node, chance = self._node, self._case.chance
        asked, kept = len(self._origin.log), node.right()
        node.spawn(*(crash_point(chance, str(node.data)) if chosen else ()))
        working = asyncio.create_task(self._work(kept))
        if chosen:
            died = await _died_within(4.0, lambda: node.running.returncode is not None or working.done())
            died = died and node.running.returncode is not None
            self._tally.add(**{"at_chosen_points" if died else "at_random_times": 1})
        else:
            await asyncio.sleep(chance.uniform(0.0, 2.2))
            self._tally.add(at_random_times=1)
        node.kill()
        await working
        self._compare(asked, kept)
        harm(node, chance)
        flip(node, chance)
        self._tally.add(kills=1)

    async def finished(self) -> None:
        """A last process finishes the file."""
        node = self._node
        asked, kept = len(self._origin.log), node.right()
        node.spawn()
        async with asyncio.timeout(120):
            await self._work(kept, last=True)
        self._compare(asked, kept)
        self._check(node.right().bit_count() == -(-len(CONTENT) // PIECE), "the volume has wrong bytes at the end")

    async def _work(self, kept: int, *, last: bool = False) -> None:
        """Wait until the process serves, and download. It may die meanwhile, unless it is the ``last``."""
        node, begun = self._node, time.monotonic()
        try:
            await eventually(self._ready_or_dead, within=20, ignoring=_GONE)
            if self._dead:
                self._check(not last, f"the last process ended before it served; read {node.log}")
                return
            self._tally.measure("seconds_until_it_serves", time.monotonic() - begun)
            self._check(time.monotonic() - begun < SERVING, "it did not serve within 5 s")
            await node.state(wanted(self._origin))
            (report,) = (await node.changes()).tasks
            self._check(report.pieces_cached >= kept.bit_count(), "it lost verified pieces")
            self._check(CONTENT == await node.read("node1"), "the peer received wrong bytes")
        except asyncio.CancelledError:
            self._check(False, "the last process does not finish")
        except _GONE as error:
            self._check(not last, f"the last process failed: {error!r}")
        except AssertionError as error:
            self._check(self._dead and "wrong" not in str(error), f"the download failed: {error}")

    @property
    def _dead(self) -> bool:
        return self._node.process is None or self._node.process.returncode is not None

    async def _ready_or_dead(self) -> bool:
        return self._dead or await self._node.is_ready()

    def _compare(self, asked: int, kept: int) -> None:
        again = (fetched(self._origin.log[asked:]) & kept).bit_count()
        self._tally.add(pieces_read_again=again)
        self._check(not again, f"{again} verified pieces were read again")

    def _check(self, holds: object, what: str) -> None:
        self._tally.check(holds, what, self._case)


async def peer(plan: Plan, tally: Tally) -> None:
    """Kill a peer that downloads a file of 120 pieces."""
    for case in plan.cases(KILLS):
        scripted, file = ScriptedSupernode(), File("a", content(120, seed=case.number))
        async with scripted.serving():
            life = _PeerLife(PeerLab(plan.folder / str(case.number), scripted), file, case, tally)
            await scripted.deliver(file)
            for kill in range(KILLS):
                await life.killed(chosen=(kill + case.number) % 2 == 1)
            await life.finished()


class _PeerLife:
    """One folder of a node, and the peers that use it one after the other."""

    def __init__(self, lab: PeerLab, file: File, case: Case, tally: Tally) -> None:
        self._lab, self._file, self._case, self._tally = lab, file, case, tally
        self._lab.folder.mkdir(parents=True)

    async def killed(self, *, chosen: bool) -> None:
        lab, chance = self._lab, self._case.chance
        sent, kept = len(lab.supernode.sent), lab.verified(self._file)
        wrapper = crash_point(chance, str(lab.root())) if chosen else ()
        known = lab.supernode.peers.get("node-1")
        async with lab.process("node-1", *wrapper) as running:
            if chosen:
                died = await _died_within(4.0, lambda: running.returncode is not None or self._published)
                self._tally.add(**{"at_chosen_points" if died and not self._published else "at_random_times": 1})
            else:
                await self._serves(known)
                await asyncio.sleep(chance.uniform(0.0, 0.12))
                self._tally.add(at_random_times=1)
            with contextlib.suppress(ProcessLookupError):
                running.kill()
            await running.wait()
        await asyncio.sleep(0.05)
        self._compare(sent, kept)
        self._tally.add(kills=1)

    async def finished(self) -> None:
        sent, kept = len(self._lab.supernode.sent), self._lab.verified(self._file)
        known = self._lab.supernode.peers.get("node-1")
        async with self._lab.process("node-1"):
            await self._serves(known)
            await eventually(lambda: self._published, within=30)
        self._compare(sent, kept)
        self._check(self._file.content == self._lab.published().read_bytes(), "the published file is wrong")

    async def _serves(self, known: object) -> None:
        begun = time.monotonic()
        await eventually(lambda: self._lab.supernode.peers.get("node-1") is not known, within=20, every=0.002)
        self._tally.measure("seconds_until_it_serves", time.monotonic() - begun)
        self._check(time.monotonic() - begun < SERVING, "it did not serve within 5 s")

    @property
    def _published(self) -> bool:
        return "node-1" in self._lab.supernode.peers and self._lab.supernode.delivered() == PUBLISHED

    def _compare(self, sent: int, kept: set[int]) -> None:
        lost = kept - self._lab.verified(self._file)
        again = kept & {number for _, number in self._lab.supernode.sent[sent:]}
        self._tally.add(pieces_read_again=len(again))
        self._check(not lost, f"{len(lost)} verified pieces were lost")
        self._check(not again, f"{len(again)} verified pieces were fetched again")
        if (published := self._lab.published()).exists():
            self._check(self._file.content == published.read_bytes(), "the published file is wrong")

    def _check(self, holds: object, what: str) -> None:
        self._tally.check(holds, what, self._case)


async def _died_within(seconds: float, died: Callable[[], bool]) -> bool:
    try:
        await eventually(died, within=seconds)
    except AssertionError:
        return False
    return True


PROMISE = "No verified piece is read again, no wrong byte arrives, and it serves again in less than 5 s."
ROWS = (
    Row(
        "kills-supernode", "SIGKILL at random times and at chosen writes", PROMISE, ("F1",), 200, 10, "kills", supernode
    ),
    Row("kills-peer", "SIGKILL at random times and at chosen writes", PROMISE, ("F1",), 100, 5, "kills", peer),
)
