"""Origins with composed faults, and processes that die while they read them."""

import asyncio

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from faults.row import Plan, Row, Tally
from tests.support.origin_program import Program
from tests.support.origin_programs import TOGETHER, ProgramLoop, programs


async def composed(plan: Plan, tally: Tally) -> None:
    """Run generated programs, several at once. Every second group has only faults that pass, and must succeed."""
    await asyncio.to_thread(_compose, plan, tally)  # the programs have an event loop of their own


def _compose(plan: Plan, tally: Tally) -> None:
    loop = ProgramLoop()
    try:
        for case in plan.cases(TOGETHER):
            for several in _generated(f"{plan.seed} {case.number}", temporary=case.number % 2 == 1):
                try:
                    loop.run(several, ends=case.number % 2 == 1)
                except AssertionError as error:
                    tally.check(False, str(error), case)
                tally.add(programs=len(several), scripted_faults=sum(len(program.script) for program in several))
                tally.add(kills=sum(len(program.kills) for program in several))
    finally:
        loop.close()


def _generated(text: str, *, temporary: bool) -> list[list[Program]]:
    """One group of programs. The same text gives the same group."""
    found: list[list[Program]] = []

    @seed(text)
    @settings(
        max_examples=2, phases=(Phase.generate,), database=None, suppress_health_check=list(HealthCheck), deadline=None
    )
    @given(st.lists(programs(temporary=temporary), min_size=TOGETHER, max_size=TOGETHER))
    def draw(several: list[Program]) -> None:
        found.append(several)

    draw()
    return found[-1:]  # the first example is always the simplest one


ROWS = (
    Row("origin-programs", "resets, stalls, wrong lengths and ranges, missing ranges, refusals, new contents, kills",
        "The digest is right, or the copy failed. A body that arrived is not read again.", ("F4", "F5"), 5_000, 120,
        "programs", composed),
)  # fmt: skip
