"""Which upload gets a slot next, when a request becomes overdue, and which parked answer breaks."""

import threading
import time
from types import SimpleNamespace
from typing import Any

from pantala_pieces.transfer.upload.parking import Parking
from pantala_pieces.transfer.upload.queue import Upload, UploadQueue
from pantala_process.fair import Claim
from tests.support.eventually import eventually_blocking

MIB = 1024 * 1024


def upload(tenant: str, size: int, queued_at: float = 0.0) -> Upload:
    answer: Any = SimpleNamespace(size=size, counted=size)
    connection: Any = SimpleNamespace(number=1)
    return Upload(connection, answer, Claim(tenant), queued_at)


def test_a_request_is_overdue_only_while_all_slots_are_taken() -> None:
    queue = UploadQueue(None)
    waiting = upload("a", 1)
    queue.put(waiting)
    assert 0.0 == queue.oldest
    assert [waiting] == queue.overdue(0.0)
    assert queue.oldest is None


def test_a_request_that_waits_for_the_rate_has_a_slot_so_the_reception_does_not_look_at_it() -> None:
    queue = UploadQueue(lambda _: 60.0)
    queue.put(upload("a", 1))
    assert queue.take() is not None
    thread = threading.Thread(target=queue.take)
    thread.start()
    try:
        eventually_blocking(lambda: queue._idle == 1)
        queue.put(upload("a", 1, time.monotonic() - 100))
        assert queue.oldest is None
        assert [] == queue.overdue(time.monotonic())
    finally:
        queue.close()
        thread.join()


def test_an_answer_that_was_parked_is_counted_once() -> None:
    queue = UploadQueue(None)
    parked, second = upload("a", 100 * MIB), upload("a", MIB)
    others = [upload("b", size * MIB) for size in (50, 100, 1)]
    for each in (parked, *others):
        queue.put(each)
    assert [parked, others[0]] == [queue.take(), queue.take()]
    parked.begun, parked.position = True, MIB
    queue.put(parked)
    assert [others[1], parked] == [queue.take(), queue.take()]
    queue.put(second)
    assert [second, others[2]] == [queue.take(), queue.take()]


class AbortedConnection:
    """Notes whether it was aborted."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


def parked(parking: Parking, client: str, number: int) -> AbortedConnection:
    connection: Any = AbortedConnection(number)
    answer: Any = SimpleNamespace(size=1, counted=1)
    parking.add(Upload(connection, answer, Claim(client=client), 0.0))
    return connection  # type: ignore[no-any-return]


def test_h7_the_oldest_answer_of_the_client_with_the_most_parked_ones_breaks() -> None:
    parking = Parking(most=4)
    honest = parked(parking, "honest", 1)
    hostile = [parked(parking, "hostile", number) for number in (2, 3, 4)]
    assert not any(each.aborted for each in (honest, *hostile))
    last = parked(parking, "other", 5)
    assert [False, True, False, False, False] == [each.aborted for each in (honest, *hostile, last)]
