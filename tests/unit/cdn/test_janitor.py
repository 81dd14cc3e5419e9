"""The janitor with a real store and fake clocks."""

import hashlib
from pathlib import Path

import pytest

from pantala_pieces.file import Meta, Piece
from pantala_pieces.store import PieceStore, Usage
from pantala_protocol import task_id
from pantala_protocol.task_id import TaskID
from pantala_supernode.errors import VolumeFailedError
from pantala_supernode.volume.eviction import EvictionCause, Watermarks
from pantala_supernode.volume.janitor import Housekeeping, Janitor

NAMES = [task_id.compute(str(number)) for number in range(4)]
SIZE = 128 * 1024
RULES = Housekeeping(grace=5.0, kept_for=100.0, watermarks=Watermarks(90, 80))


class Volume(PieceStore):
    """A store on a disk of a given size."""

    disk = Usage(100 * SIZE, 100 * SIZE)

    def usage(self) -> Usage:
        taken = sum(file.allocated for file in self)
        return Usage(self.disk.free - taken, self.disk.total)


class Bench:
    def __init__(self, directory: Path, *, stated: bool = True) -> None:
        self.wall = 1_000_000.0
        self.clock = 10.0
        self.stated = stated
        self.wanted: set[TaskID] = set()
        self.released: set[TaskID] = set()
        self.broken: set[TaskID] = set()
        self.spared: list[TaskID] = []
        self.store = Volume(directory, durable=False)
        self.store.open()
        self.janitor = self.employ()

    def employ(self) -> Janitor:
        return Janitor(
            self.store,
            self.delete,
            wanted=lambda name: name in self.wanted,
            released=lambda name: name in self.released,
            stated=lambda: self.stated,
            rules=RULES,
            spare=self.spare,
            clock=lambda: self.clock,
            wall=lambda: self.wall,
        )

    def spare(self) -> bool:
        if not self.spared:
            return False
        self.wanted.discard(self.spared.pop(0))
        return True

    async def delete(self, name: TaskID) -> None:
        if name in self.broken:
            raise VolumeFailedError("no")
        self.store.delete(name)

    def put(self, number: int) -> None:
        data = bytes([number + 1]) * SIZE
        file = self.store.create(Meta(NAMES[number], "g", SIZE, SIZE))
        file.put([Piece(0, data, hashlib.sha256(data).digest())])
        file.used = self.wall

    def pass_time(self, seconds: float) -> None:
        self.wall += seconds
        self.clock += seconds

    def there(self) -> list[int]:
        return [number for number, name in enumerate(NAMES) if self.store.get(name)]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_age_counts_from_the_last_use(bench: Bench) -> None:
    bench.put(0)
    bench.put(1)
    bench.wanted.add(NAMES[0])
    await bench.janitor.look()
    bench.pass_time(99)
    await bench.janitor.look()
    assert [0, 1] == bench.there()
    bench.pass_time(1)
    await bench.janitor.look()
    assert [0] == bench.there()
    bench.wanted.clear()
    await bench.janitor.look()
    bench.pass_time(99)
    await bench.janitor.look()
    assert [0] == bench.there()
    bench.pass_time(1)
    await bench.janitor.look()
    assert [] == bench.there()
    assert {EvictionCause.AGE: 2} == bench.janitor.evictions


async def test_reading_a_copy_counts_as_a_use(bench: Bench) -> None:
    bench.put(0)
    await bench.janitor.look()
    bench.pass_time(99)
    file = bench.store.get(NAMES[0])
    assert file is not None
    file.used = bench.wall
    bench.pass_time(50)
    await bench.janitor.look()
    assert [0] == bench.there()


async def test_the_last_use_survives_a_restart(bench: Bench, tmp_path: Path) -> None:
    bench.put(0)
    bench.wanted.add(NAMES[0])
    bench.pass_time(500)
    await bench.janitor.look()  # notes it on the disk
    again = Bench(tmp_path)
    again.wall, again.clock = bench.wall + 99, 50.0
    await again.janitor.look()
    again.pass_time(5)
    await again.janitor.look()
    assert [] == again.there()
    file = bench.store.get(NAMES[0])
    assert file is not None
    assert file.used == bench.wall


async def test_after_a_restart_the_operator_has_time_for_its_statement(bench: Bench) -> None:
    bench.put(0)
    bench.pass_time(1000)
    await bench.janitor.look()
    assert [0] == bench.there()
    bench.wanted.add(NAMES[0])
    bench.pass_time(6)
    await bench.janitor.look()
    assert [0] == bench.there()


async def test_only_released_copies_age_before_the_first_statement(tmp_path: Path) -> None:
    bench = Bench(tmp_path, stated=False)
    bench.put(0)
    bench.put(1)
    bench.released.add(NAMES[1])  # its lease ended: that is known without any operator
    for _ in range(3):
        bench.pass_time(1000)
        await bench.janitor.look()
    assert [0] == bench.there()


async def test_a_full_disk_loses_the_least_recently_used_copies(bench: Bench) -> None:
    for number in (2, 0, 3, 1):
        bench.put(number)
        bench.pass_time(1)
    bench.wanted.add(NAMES[2])  # the oldest, but wanted
    bench.store.disk = Usage(13 * SIZE, 100 * SIZE)  # 91 % taken with the four; 80 % is out of reach by two of them
    await bench.janitor.look()
    assert [2] == bench.there()
    assert {EvictionCause.DISK: 3} == bench.janitor.evictions


async def test_eviction_stops_at_the_low_mark(bench: Bench) -> None:
    for number in range(4):
        bench.put(number)
        bench.pass_time(1)
    bench.store.disk = Usage(6 * SIZE, 20 * SIZE)  # 90 % are taken with the four
    await bench.janitor.look()
    assert [0, 1, 2, 3] == bench.there()
    bench.store.disk = Usage(5 * SIZE, 20 * SIZE)  # 95 %, of which 80 % may stay
    await bench.janitor.look()
    assert [3] == bench.there()


async def test_copies_are_evicted_for_room_only_if_that_suffices(bench: Bench) -> None:
    for number in range(3):
        bench.put(number)
        bench.pass_time(1)
    bench.wanted.add(NAMES[0])
    await bench.janitor.look()
    bench.store.disk = Usage(4 * SIZE, 1000 * SIZE)  # one is free
    assert not await bench.janitor.make_room(4 * SIZE)
    assert [0, 1, 2] == bench.there()
    assert await bench.janitor.make_room(2 * SIZE)
    assert [0, 2] == bench.there()
    assert await bench.janitor.make_room(0)  # something else than bytes is short
    assert [0] == bench.there()
    assert not await bench.janitor.make_room(0)
    assert {EvictionCause.ROOM: 2} == bench.janitor.evictions


async def test_without_an_operator_room_is_made_after_a_while(tmp_path: Path) -> None:
    bench = Bench(tmp_path, stated=False)
    bench.put(0)
    await bench.janitor.look()
    assert not await bench.janitor.make_room(0)
    bench.pass_time(600)
    await bench.janitor.look()
    assert [0] == bench.there()
    assert await bench.janitor.make_room(0)


async def test_a_failed_eviction_is_retried_and_does_not_stop_others(bench: Bench) -> None:
    bench.put(0)
    bench.put(1)
    bench.broken.add(NAMES[0])
    await bench.janitor.look()
    bench.pass_time(200)
    await bench.janitor.look()
    assert [0] == bench.there()
    bench.broken.clear()
    await bench.janitor.look()
    assert [] == bench.there()


async def test_leases_for_later_demand_end_only_as_room_is_needed(bench: Bench) -> None:
    bench.store.disk = Usage(4 * SIZE, 4 * SIZE)
    for number in range(4):
        bench.put(number)
    bench.wanted |= set(NAMES)
    bench.spared = [NAMES[2], NAMES[1], NAMES[3]]

    assert await bench.janitor.make_room(2 * SIZE)
    assert [0, 3] == bench.there()
    assert [NAMES[3]] == bench.spared
