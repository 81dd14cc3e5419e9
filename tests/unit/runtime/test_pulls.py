"""Requests for one image share a pull, which ends with the last of them."""

import asyncio
import itertools

import pytest

from pantala_protocol.image import parse
from pantala_protocol.runtime import PullCredentials, PulledImage
from pantala_runtime.errors import NoSuchImageError, PullDigestError, PullTimeoutError, PullUnauthorizedError
from pantala_runtime.pulls import Pulls
from tests.support.runtime import FakeRuntime

DIGEST = "sha256:" + "a" * 64
pytestmark = pytest.mark.virtual_time

APP = parse("r.example/team/app:1")
PINNED_APP = parse(f"r.example/team/app@{DIGEST}")
ANN = PullCredentials("ann", "secret", "https://r.example")


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


def begin(pulls: Pulls, credentials: PullCredentials | None = None) -> asyncio.Task[PulledImage]:
    return asyncio.create_task(pulls.pull(APP, credentials, timeout=10))


async def test_a_pull_returns_the_image_that_is_here(pulls: Pulls) -> None:
    assert PulledImage(DIGEST, 7, 1.0, pinned=False) == await pulls.pull(APP, timeout=1)


async def test_all_requests_for_an_image_share_one_pull(runtime: FakeRuntime, pulls: Pulls) -> None:
    runtime.free.clear()
    asked = [begin(pulls) for _ in range(3)]
    await settle()
    runtime.free.set()
    assert 1 == len({await one for one in asked})
    assert [(str(APP), None)] == runtime.pulls


async def test_a_shared_pull_fails_for_all_requests_and_the_next_one_is_new(runtime: FakeRuntime, pulls: Pulls) -> None:
    runtime.error = PullUnauthorizedError("no")
    for one in [begin(pulls), begin(pulls)]:
        with pytest.raises(PullUnauthorizedError):
            await one
    assert 1 == len(runtime.pulls)
    runtime.error = None
    await pulls.pull(APP, timeout=1)
    assert 2 == len(runtime.pulls)


async def test_a_pull_with_other_credentials_waits_for_the_running_one(runtime: FakeRuntime, pulls: Pulls) -> None:
    runtime.free.clear()
    asked = [begin(pulls), begin(pulls, credentials=ANN)]
    await settle()
    assert [(str(APP), None)] == runtime.pulls
    runtime.free.set()
    await asyncio.gather(*asked)
    assert [(str(APP), None), (str(APP), ANN)] == runtime.pulls


async def test_a_pull_goes_on_while_a_request_waits(runtime: FakeRuntime, pulls: Pulls) -> None:
    runtime.free.clear()
    first, second = begin(pulls), begin(pulls)
    await settle()
    first.cancel()
    await settle()
    assert 1 == runtime.running
    runtime.free.set()
    assert DIGEST == (await second).digest
    assert 1 == len(runtime.pulls)


async def test_a_pull_ends_with_its_last_request(runtime: FakeRuntime, pulls: Pulls) -> None:
    runtime.free.clear()
    asked = [begin(pulls), begin(pulls)]
    await settle()
    for one in asked:
        one.cancel()
    await settle()
    assert 0 == runtime.running


async def test_a_request_during_a_cancellation_gets_its_own_pull(runtime: FakeRuntime, pulls: Pulls) -> None:
    runtime.free.clear()
    first = begin(pulls)
    await settle()
    first.cancel()
    second = begin(pulls)
    await settle()
    runtime.free.set()
    assert DIGEST == (await second).digest
    assert 2 == len(runtime.pulls)


async def test_a_time_limit_ends_one_request_and_not_the_shared_pull(runtime: FakeRuntime, pulls: Pulls) -> None:
    runtime.free.clear()
    patient = begin(pulls)
    with pytest.raises(PullTimeoutError, match=r"0\.01 s"):
        await pulls.pull(APP, timeout=0.01)
    assert 1 == runtime.running
    runtime.free.set()
    await patient


async def test_another_digest_than_the_requested_one_is_an_error(runtime: FakeRuntime, pulls: Pulls) -> None:
    runtime.registry[str(PINNED_APP)] = "sha256:" + "b" * 64
    with pytest.raises(PullDigestError):
        await pulls.pull(PINNED_APP, timeout=1)


async def test_an_honoured_pin_is_reported(pulls: Pulls) -> None:
    assert pulls.pins_honoured is None
    assert (await pulls.pull(APP, timeout=1, pin=True)).pinned
    assert pulls.pins_honoured is True


async def test_an_ignored_pin_is_reported_and_waited_for_once(runtime: FakeRuntime, pulls: Pulls) -> None:
    runtime.honours_pins = False
    loop = asyncio.get_running_loop()
    assert not (await pulls.pull(APP, timeout=5, pin=True)).pinned
    assert pulls.pins_honoured is False
    begun = loop.time()
    assert not (await pulls.pull(APP, timeout=5, pin=True)).pinned
    assert loop.time() - begun < 0.5


async def test_an_image_can_be_unpinned(runtime: FakeRuntime, pulls: Pulls) -> None:
    await pulls.pull(APP, timeout=1, pin=True)
    await pulls.unpin(APP)
    assert not runtime.here[str(APP)].pinned
    with pytest.raises(NoSuchImageError):
        await pulls.unpin(PINNED_APP)


async def test_closing_stops_all_pulls(runtime: FakeRuntime, pulls: Pulls) -> None:
    runtime.free.clear()
    asked = begin(pulls)
    await settle()
    await pulls.close()
    assert 0 == runtime.running
    with pytest.raises(asyncio.CancelledError):
        await asked
