"""What tests of the sender's reception ask about its threads, files and fetches."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pantala_pieces.transfer.upload.fetches import FetchState
from tests.support.eventually import eventually
from tests.support.sender_stage import SenderStage

SMALL = 1000
HUGE = 24 * 1024 * 1024
"""More than the kernel takes for a client that does not read."""
WINDOW = 4096


def names() -> list[str]:
    return sorted(each.name for each in threading.enumerate() if each.name.startswith("piece-"))


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert [] == names()


def states(it: SenderStage) -> list[FetchState]:
    return [state for _, state in it.fetches]


async def until_begun(it: SenderStage, fetches: int) -> None:
    """Wait until the sender knows so many fetches. They may still wait for a slot."""
    await eventually(lambda: states(it).count(FetchState.BEGUN) == fetches)


def sent(it: SenderStage) -> list[int]:
    return [piece for piece, state in it.fetches if state is FetchState.SENT]


async def serves(it: SenderStage) -> bool:
    async with it.client() as client:
        try:
            return (await client.get(it.native(0))).status == 206
        except (EOFError, ConnectionError):
            return False
