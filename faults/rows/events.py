"""An API server that drops, repeats and ages events, and operators that come and go."""

import asyncio
import contextlib
import random
from copy import deepcopy
from typing import Any

from faults.row import Case, Plan, Row, Tally
from pantala_operator.errors import ClusterUnavailableError
from tests.support.cluster import Body, MemoryCluster
from tests.support.eventually import eventually
from tests.support.operator_stage import OperatorStage
from tests.support.virtual_time import VirtualTimeLoop

ACTS = 25
NODES = ("n1", "n2", "n3")
LISTS = 120.0
"""Seconds between two lists of all objects, as by default."""


class UnreliableCluster(MemoryCluster):
    """An API server whose watch loses events, repeats them, or sends them much later, when they are out of date."""

    def __init__(self, chance: random.Random, tally: Tally) -> None:
        super().__init__()
        self._chance = chance
        self._tally = tally
        self.faulty = True

    def _notify(self, kind: str, event: str | None, body: Body) -> None:
        fate = self._chance.random() if self.faulty else 1.0
        if fate < 0.3:
            self._tally.add(events=1, dropped=1)
        elif fate < 0.45:
            self._tally.add(events=1, repeated=1)
            super()._notify(kind, event, body)
            super()._notify(kind, event, body)
        elif fate < 0.7:
            self._tally.add(events=1, aged=1)
            old = deepcopy(body)
            asyncio.get_running_loop().call_later(self._chance.uniform(0.1, 200), super()._notify, kind, event, old)
        else:
            super()._notify(kind, event, body)


class _Operators:
    """Two operators with one Lease. Each of them may end and start again."""

    def __init__(self, stage: OperatorStage) -> None:
        self._stage = stage
        self._running: list[asyncio.Task[Any] | None] = [None, None]

    def start(self, number: int) -> None:
        if self._running[number] is None:
            self._running[number] = asyncio.create_task(self._stage.app().run())

    async def stop(self, number: int) -> None:
        task, self._running[number] = self._running[number], None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(task, return_exceptions=True)


async def events(plan: Plan, tally: Tally) -> None:
    """Compare the end state with what the users want, after a random history with faults."""
    await asyncio.to_thread(_all_histories, plan, tally)


def _all_histories(plan: Plan, tally: Tally) -> None:
    for case in plan.cases():
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(_history(case, tally))
        tally.add(histories=1)


async def _history(case: Case, tally: Tally) -> None:
    chance = case.chance
    stage = OperatorStage(relist_interval=LISTS, lease="ns/pantala-operator")
    cluster = stage.cluster = UnreliableCluster(chance, tally)
    operators = _Operators(stage)
    await stage.connect(*NODES)
    operators.start(0)
    for _ in range(ACTS):
        await _act(stage, operators, chance, tally)
        await asyncio.sleep(chance.choice([0.0, 0.3, 5.0, 40.0]))
    cluster.faulty = False
    cluster.outage = None
    for number in (0, 1):
        operators.start(number)
    try:
        await _settles(stage, case, tally)
    finally:
        for number in (0, 1):
            await operators.stop(number)


async def _act(stage: OperatorStage, operators: _Operators, chance: random.Random, tally: Tally) -> None:
    """One act of a user, or one fault of a process."""
    name, tasks = f"t{chance.randrange(6)}", stage.cluster.objects["tasks"]
    match chance.choice(["put", "put", "put", "remove", "stop", "start", "second", "outage", "node"]):
        case "put":
            stage.task(name, source={"url": f"http://origin.example/{chance.randrange(4)}"})
        case "remove" if f"ns/{name}" in tasks:
            stage.cluster.remove("tasks", f"ns/{name}")
        case "stop":
            await operators.stop(chance.randrange(2))
            tally.add(ended_operators=1)
        case "start":
            operators.start(chance.randrange(2))
        case "second":
            operators.start(0)
            operators.start(1)
            tally.add(two_at_once=1)
        case "outage":
            stage.cluster.outage = None if stage.cluster.outage else ClusterUnavailableError("the API server is away")
        case "node":
            stage.node(chance.choice(NODES), labels={"color": chance.choice(["red", "blue"])})
        case _:
            pass


async def _settles(stage: OperatorStage, case: Case, tally: Tally) -> None:
    """After two lists of all objects, the statement and each status are what the users want."""
    wanted = {key: body["spec"]["source"]["url"] for key, body in stage.cluster.objects["tasks"].items()}
    began = asyncio.get_running_loop().time()

    def stated() -> bool:
        return {name: each.url for name, each in stage.supernode.wanted.items()} == wanted

    try:
        await eventually(stated, within=3 * LISTS, every=0.5, what=lambda: f"{stage.supernode.wanted} is {wanted}")
        for key in wanted:
            await stage.finish(key.removeprefix("ns/"))
    except AssertionError as error:
        tally.check(False, f"the end state is wrong: {error}", case)
        return
    tally.measure("virtual_seconds_until_right", asyncio.get_running_loop().time() - began)
    observed = {key: stage.cluster.task(key).status.observed_generation for key in wanted}
    right = {key: stage.cluster.objects["tasks"][key]["metadata"]["generation"] for key in wanted}
    tally.check(observed == right, f"the statuses are of the generations {observed} and not {right}", case)
    writes = len(stage.cluster.writes)
    await asyncio.sleep(3 * LISTS)
    more = stage.cluster.writes[writes:]
    tally.check(len(more) <= 2 * len(wanted), f"the operators do not rest: {more}", case)


ROWS = (
    Row("api-events",
        "an API server stops for a while; it drops, repeats and delays events; up to two operators end and start",
        "The end state is what the users want, and then the operators write no more.", ("F11", "F13", "F10", "M4"), 300,
        5, "histories", events),
)  # fmt: skip
