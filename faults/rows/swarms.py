"""Swarms: many peers at once, and peers that lie."""

import asyncio
import contextlib
import random
import time
from functools import partial
from pathlib import Path

from bench.connection import BenchConnection
from faults.row import Case, Plan, Row, Tally, few_descriptors
from pantala_process.listening import allow_files
from pantala_protocol import task_id
from pantala_protocol.statement import Statement, WantedTask
from pantala_supernode.app import serving
from testbed.origin import Behaviour, Generated, Origin
from tests.support.hostile_lab import BAD_ANSWERS, BAD_BYTES, BODY, PIECES, HostileLab
from tests.support.hostile_peer import HostilePeer
from tests.support.reporting_peer import ReportingDfget, ReportingPeer
from tests.support.supernode_lab import loopback

PEERS = 20
SIZES = (1, 10, 100, 1000)
RUNS = 20
FILE = 4
"""Pieces of the file that many peers fetch."""
_SIZE = FILE * 128 * 1024
_DESCRIPTORS = 12_000
"""Open files for 1,000 peers: the API may use half of them, and each address a quarter of that."""


async def hostile(plan: Plan, tally: Tally) -> None:
    """Let ``f`` of 20 peers claim all pieces and serve badly, for each f from 0 to 19."""
    for case in plan.cases():
        bad = (12 + 7 * case.number) % PEERS  # any 20 in a row have each number once
        async with HostileLab(plan.folder / str(case.number)) as lab:
            lab.origin.serve("/file", BODY, always=Behaviour(rate=8 * 1024 * 1024))
            begun = time.monotonic()
            try:
                await _with_hostile(lab, bad, case.chance)
            except AssertionError as error:
                tally.check(False, f"with {bad} hostile peers of {PEERS}: {error}", case)
            tally.measure("seconds_for_the_honest_peers", time.monotonic() - begun)
        tally.add(swarms=1, hostile_peers=bad, honest_peers=PEERS - bad)


async def _with_hostile(lab: HostileLab, bad: int, chance: random.Random) -> None:
    honest = [f"node-{number}" for number in range(PEERS - bad)]
    liars = [HostilePeer(lab.url, chance.choice(BAD_BYTES + BAD_ANSWERS), f"hostile-{n}") for n in range(bad)]
    async with contextlib.AsyncExitStack() as stack:
        for liar in liars:
            await stack.enter_async_context(liar.living())
        await stack.enter_async_context(lab.honest(*honest))
        await lab.want(*(liar.name for liar in liars), *honest)
        await asyncio.gather(*(liar.claim_all(PIECES) for liar in liars))
        going_on = [asyncio.create_task(liar.go_on()) for liar in liars]
        try:
            await lab.until_all_have_it(*honest, within=60)
        finally:
            for task in going_on:
                task.cancel()
            await asyncio.gather(*going_on, return_exceptions=True)


async def stampedes(plan: Plan, tally: Tally) -> None:
    """Let N peers and clients of Dragonfly ask for one file at once. They report pieces without downloading them."""
    allow_files()
    for case in plan.cases():
        peers = SIZES[case.number % len(SIZES)]
        begun = time.monotonic()
        files = _open_files()
        read, bookings = await _stampede(plan, peers, case)
        tally.check(read == _SIZE, f"{peers} peers cost {read} bytes of the origin instead of {_SIZE}", case)
        tally.check(bookings == 0, f"{bookings} pieces are booked although all peers have them", case)
        tally.check(_open_files() <= files + 20, f"{_open_files() - files} files stay open", case)
        tally.measure(f"seconds_with_{peers}", time.monotonic() - begun)
        tally.add(**{"swarms": 1, f"with_{peers}": 1, "peers": peers})


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def _stampede(plan: Plan, peers: int, case: Case) -> tuple[int, int]:
    """Let ``peers`` clients ask for one file at once. Return the bytes that the origin sent, and the open bookings.

    A booking is a piece that a peer must take from another peer, and has not reported yet.
    """
    names = tuple(f"node-{number}" for number in range(peers))
    settings = loopback(plan.folder / str(case.number), dragonfly=True)
    async with Origin() as origin, serving(settings) as app:
        origin.serve(
            "/f", Generated(_SIZE, seed=case.number), always=Behaviour(rate=case.chance.uniform(1, 20) * _SIZE)
        )
        url = origin.url("/f")
        app.supernode.state(Statement(1, (WantedTask("u", "ns/n", task_id.compute(url), url, path="f", peers=names),)))
        port = app.settings.listen.port
        connections = [await BenchConnection.open("127.0.0.1", port) for _ in names]
        everyone = (
            ReportingDfget(link, url, n).run() if n % 2 else ReportingPeer(link, name, FILE).run()
            for n, (link, name) in enumerate(zip(connections, names, strict=True))
        )
        async with asyncio.timeout(110):
            await asyncio.gather(*everyone)
        for connection in connections:
            connection.close()
        return origin.body_bytes("/f"), app.managers.progress.peer_bookings


ROWS = (
    Row("hostile-peers",
        "f = 0..19 of 20 peers claim all pieces and serve wrong bytes, garbage, halves, drops or nothing",
        "Every honest peer has the right file, and the origin is read once.", ("T4", "T5", "F7"), PEERS, 2, "swarms",
        hostile),
    Row("stampedes", "1, 10, 100 and 1,000 peers and clients of Dragonfly ask for one file at once",
        "The origin sends the body once.", ("F18",), len(SIZES) * RUNS, 4, "swarms", stampedes,
        partial(few_descriptors, _DESCRIPTORS)),
)  # fmt: skip
