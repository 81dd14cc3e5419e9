"""Replicas that do not reach each other for a while."""

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

from faults.gate import Gate, Passage
from faults.row import Case, Plan, Row, Tally
from pantala_protocol import task_id
from pantala_protocol.statement import Member, Membership, WantedTask
from testbed.origin import Behaviour, Generated, Origin
from tests.support.supernode_lab import SupernodeLab

SIZE = 3 * 1024 * 1024 + 17
NAMES = ("s-0", "s-1", "s-2")
_REVISIONS = itertools.count(1)


class Divided:
    """Three replicas. Each reaches each other one through a gate of its own."""

    def __init__(self, folder: Path) -> None:
        self.nodes = {name: SupernodeLab(folder / name, grace=0.2) for name in NAMES}
        self.gates = {
            (one, other): Gate(self.nodes[other].settings.listen.port)
            for one, other in itertools.permutations(NAMES, 2)
        }

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for node in self.nodes.values():
                await stack.enter_async_context(node)
            for gate in self.gates.values():
                await stack.enter_async_context(gate.serving())
            yield

    def membership(self, name: str, revision: int) -> Membership:
        """The members as one replica reaches them."""
        urls = {other: self.gates[name, other].url if other != name else self.nodes[name].url for other in NAMES}
        return Membership(revision, tuple(Member(other, url) for other, url in urls.items()))

    def divide(self, alone: str, passage: Passage) -> None:
        """Separate one replica from the two others."""
        for (one, other), gate in self.gates.items():
            if alone in (one, other):
                gate.set(passage)

    def heal(self) -> None:
        for gate in self.gates.values():
            gate.set(Passage.OPEN)


async def partitions(plan: Plan, tally: Tally) -> None:
    """Divide three replicas that want one file, at any moment and for any time."""
    for case in plan.cases():
        body = Generated(SIZE, seed=case.number)
        divided = Divided(plan.folder / str(case.number))
        async with divided.running(), Origin() as origin:
            origin.serve("/f", body, always=Behaviour(rate=case.chance.choice([1, 2, 4]) * 1024 * 1024))
            begun = time.monotonic()
            dividing = asyncio.create_task(_divide(divided, case.chance, tally))
            try:
                await _all_read(divided, origin, case, tally, body)
            finally:
                dividing.cancel()
                await asyncio.gather(dividing, return_exceptions=True)
            tally.measure("seconds_until_all_have_it", time.monotonic() - begun)
        tally.add(partitions=1)


async def _divide(divided: Divided, chance: random.Random, tally: Tally) -> None:
    passage = chance.choice([Passage.REFUSED, Passage.SILENT])
    await asyncio.sleep(chance.uniform(0.0, 1.5))
    divided.divide(chance.choice(NAMES), passage)
    tally.add(**{f"{passage.name.lower()}": 1})
    await asyncio.sleep(chance.uniform(0.1, 6.0))
    divided.heal()


async def _all_read(divided: Divided, origin: Origin, case: Case, tally: Tally, body: Generated) -> None:
    url = origin.url("/f")
    wanted = WantedTask("u", "ns/n", task_id.compute(url), url)
    revision = next(_REVISIONS)
    for name, node in divided.nodes.items():
        await node.state(wanted, membership=divided.membership(name, revision), member=name)
        await asyncio.sleep(case.chance.choice([0.0, 0.0, 0.3]))
    for name, node in divided.nodes.items():
        await node.cached()
        file = node.app.store.get(wanted.task_id)
        right = file is not None and file.path.read_bytes() == body.read(0, SIZE)
        tally.check(right, f"{name} has wrong bytes", case)
    read = origin.body_bytes("/f")
    tally.measure("bodies_read", read / SIZE)
    tally.check(read <= 2 * SIZE, f"two sides read {read} bytes of a file with {SIZE}", case)


ROWS = (
    Row("partitions", "one of three replicas is cut off, by resets or by silence, at any moment",
        "Every replica gets the right file. Each side reads the origin at most once.", ("F9",), 100, 2, "partitions",
        partitions),
)  # fmt: skip
