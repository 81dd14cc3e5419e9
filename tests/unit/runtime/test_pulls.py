"""Pulls are shared, bounded, and stopped when nobody waits."""

import asyncio
import itertools

import pytest

from pantala_protocol.image import ImageReference, parse
from pantala_runtime.errors import DigestMismatchError, NotFoundError, TimedOutError, UnauthorizedError
from pantala_runtime.pulls import Pulled, Pulls
from pantala_runtime.runtime import Credentials
from tests.support.runtime import FakeRuntime

DIGEST = "sha256:" + "a" * 64
APP = parse("r.example/team/app:1")
PINNED_APP = parse(f"r.example/team/app@{DIGEST}")
ANN = Credentials("ann", "secret", "https://r.example")


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime({str(APP): DIGEST, str(PINNED_APP): DIGEST})


@pytest.fixture
def pulls(runtime: FakeRuntime) -> Pulls:
    clock = itertools.count(1.0)
    return Pulls(runtime, lambda: next(clock))


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def begin(pulls: Pulls, image: ImageReference = APP, credentials: Credentials | None = None) -> asyncio.Task[Pulled]:
    return asyncio.create_task(pulls.pull(image, credentials, timeout=10))


async def test_a_pull_tells_what_is_here_now(pulls: Pulls) -> None:
    assert Pulled(DIGEST, 7, 1.0, pinned=False) == await pulls.pull(APP, timeout=1)


async def test_all_who_want_an_image_share_one_pull(runtime: FakeRuntime, pulls: Pulls) -> None:
    runtime.free.clear()
    asked = [begin(pulls) for _ in range(3)]
    await settle()
    runtime.free.set()
    assert 1 == len({await one for one in asked})
    assert [(str(APP), None)] == runtime.pulls


async def test_a_shared_pull_fails_for_all_and_the_next_one_is_new(runtime: FakeRuntime, pulls: Pulls) -> None:
    runtime.error = UnauthorizedError("no")
    for one in [begin(pulls), begin(pulls)]:
        with pytest.raises(UnauthorizedError):
            await one
    assert 1 == len(runtime.pulls)
    runtime.error = None
    await pulls.pull(APP, timeout=1)
    assert 2 == len(runtime.pulls)


async def test_other_credentials_prove_themselves_after_the_pull_that_runs(runtime: FakeRuntime, pulls: Pulls) -> None:
    runtime.free.clear()
    asked = [begin(pulls), begin(pulls, credentials=ANN)]
    await settle()
    assert [(str(APP), None)] == runtime.pulls
    runtime.free.set()
    await asyncio.gather(*asked)
    assert [(str(APP), None), (str(APP), ANN)] == runtime.pulls


async def test_a_pull_goes_on_while_anybody_waits(runtime: FakeRuntime, pulls: Pulls) -> None:
    runtime.free.clear()
    first, second = begin(pulls), begin(pulls)
    await settle()
    first.cancel()
    await settle()
    assert 1 == runtime.running
    runtime.free.set()
    assert DIGEST == (await second).digest
    assert 1 == len(runtime.pulls)


async def test_a_pull_that_nobody_waits_for_is_stopped(runtime: FakeRuntime, pulls: Pulls) -> None:
    runtime.free.clear()
    asked = [begin(pulls), begin(pulls)]
    await settle()
    for one in asked:
        one.cancel()
    await settle()
    assert 0 == runtime.running


async def test_who_comes_while_a_pull_is_being_stopped_gets_one_of_its_own(runtime: FakeRuntime, pulls: Pulls) -> None:
    runtime.free.clear()
    first = begin(pulls)
    await settle()
    first.cancel()
    second = begin(pulls)
    await settle()
    runtime.free.set()
    assert DIGEST == (await second).digest
    assert 2 == len(runtime.pulls)


async def test_time_is_up_for_the_one_who_gave_it(runtime: FakeRuntime, pulls: Pulls) -> None:
    runtime.free.clear()
    patient = begin(pulls)
    with pytest.raises(TimedOutError, match=r"0\.01 s"):
        await pulls.pull(APP, timeout=0.01)
    assert 1 == runtime.running
    runtime.free.set()
    await patient


async def test_a_digest_that_is_not_the_one_asked_for_is_an_error(runtime: FakeRuntime, pulls: Pulls) -> None:
    runtime.registry[str(PINNED_APP)] = "sha256:" + "b" * 64
    with pytest.raises(DigestMismatchError):
        await pulls.pull(PINNED_APP, timeout=1)


async def test_a_pin_that_is_heeded_is_told(pulls: Pulls) -> None:
    assert pulls.pinning_heeded is None
    assert (await pulls.pull(APP, timeout=1, pin=True)).pinned
    assert pulls.pinning_heeded is True


async def test_a_pin_that_is_not_heeded_is_told_and_waited_for_once(runtime: FakeRuntime, pulls: Pulls) -> None:
    runtime.heeds_pins = False
    loop = asyncio.get_running_loop()
    assert not (await pulls.pull(APP, timeout=5, pin=True)).pinned
    assert pulls.pinning_heeded is False
    begun = loop.time()
    assert not (await pulls.pull(APP, timeout=5, pin=True)).pinned
    assert loop.time() - begun < 0.5


async def test_an_image_can_be_unpinned(runtime: FakeRuntime, pulls: Pulls) -> None:
    await pulls.pull(APP, timeout=1, pin=True)
    await pulls.unpin(APP)
    assert not runtime.here[str(APP)].pinned
    with pytest.raises(NotFoundError):
        await pulls.unpin(PINNED_APP)


async def test_closing_stops_all_pulls(runtime: FakeRuntime, pulls: Pulls) -> None:
    runtime.free.clear()
    asked = begin(pulls)
    await settle()
    await pulls.close()
    assert 0 == runtime.running
    with pytest.raises(asyncio.CancelledError):
        await asked
