"""Any origin, read over several connections, gives the right bytes or a failure, and reads no byte in vain."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.origin_program import Program
from tests.support.origin_programs import TOGETHER, ProgramLoop, programs


@pytest.fixture(scope="module")
def loop() -> Iterator[ProgramLoop]:
    made = ProgramLoop()
    yield made
    made.close()


# Without shrinking: a failure names its program, and most faults depend on the moment, so that fewer of them hide it.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)


@settings(max_examples=examples(60), phases=PHASES, suppress_health_check=list(HealthCheck))
@given(several=st.lists(programs(temporary=False), min_size=TOGETHER, max_size=TOGETHER))
def test_any_origin_gives_right_bytes_or_a_failure(loop: ProgramLoop, several: list[Program]) -> None:
    loop.run(several, ends=False)


@settings(max_examples=examples(30), phases=PHASES, suppress_health_check=list(HealthCheck))
@given(several=st.lists(programs(temporary=True), min_size=TOGETHER, max_size=TOGETHER))
def test_an_origin_with_temporary_faults_is_read(loop: ProgramLoop, several: list[Program]) -> None:
    loop.run(several, ends=True)
