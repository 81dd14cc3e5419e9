"""Results of threads reach the event loop in order, many with one wake-up."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from pantala_pieces.transfer.mailbox import Mailbox
from tests.support.eventually import eventually


async def test_results_of_several_threads_arrive_once_and_in_each_threads_order() -> None:
    arrived: list[tuple[int, int]] = []
    mailbox = Mailbox[tuple[int, int]](arrived.extend)

    def post(name: int) -> None:
        for number in range(1000):
            mailbox.post((name, number))

    threads = [threading.Thread(target=post, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    await eventually(lambda: len(arrived) == 4000)
    for name in range(4):
        assert [(name, number) for number in range(1000)] == [each for each in arrived if each[0] == name]


async def test_results_that_arrive_together_are_delivered_together() -> None:
    batches: list[Sequence[int]] = []
    mailbox = Mailbox[int](batches.append)
    for number in range(3):
        mailbox.post(number)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    mailbox.post(3)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [[0, 1, 2], [3]] == [list(batch) for batch in batches]


def test_a_result_after_the_end_of_the_loop_is_ignored() -> None:
    arrived: list[int] = []

    async def make() -> Mailbox[int]:
        return Mailbox[int](arrived.extend)

    mailbox = asyncio.run(make())
    mailbox.post(1)
    assert [] == arrived


@pytest.mark.virtual_time
async def test_after_a_delivery_results_of_a_while_are_joined() -> None:
    batches: list[Sequence[int]] = []
    mailbox = Mailbox[int](batches.append, join=0.05)
    mailbox.post(0)
    await asyncio.sleep(0.01)
    assert [[0]] == batches
    for number in (1, 2):
        mailbox.post(number)
        await asyncio.sleep(0.01)
    assert [[0]] == batches
    assert 2 == mailbox.waiting
    await asyncio.sleep(0.03)
    assert [[0], [1, 2]] == batches
    await asyncio.sleep(0.06)
    mailbox.post(3)
    await asyncio.sleep(0.001)
    assert [[0], [1, 2], [3]] == batches


@pytest.mark.virtual_time
async def test_an_urgent_result_takes_the_waiting_ones_along() -> None:
    batches: list[Sequence[int]] = []
    mailbox = Mailbox[int](batches.append, join=0.05)
    for number in range(3):
        mailbox.post(number, urgent=number == 2)
        await asyncio.sleep(0.01)
    assert [[0], [1, 2]] == batches
    mailbox.post(3)
    await asyncio.sleep(0.039)
    assert [[0], [1, 2]] == batches
    await asyncio.sleep(0.002)
    assert [[0], [1, 2], [3]] == batches
