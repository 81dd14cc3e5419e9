"""The janitor with a real store and fake clocks."""

import hashlib
from pathlib import Path

import pytest

from pantala_pieces.file import Meta, Piece, PieceFile
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
        self.wanted: set[TaskID] = set()
        self.released: set[TaskID] = set()
        self.broken: set[TaskID] = set()
        self.spared: list[TaskID] = []
        self.store = Volume(directory, durable=False)
        self.store.open()
        self.janitor = Janitor(
            self.store,
            self.delete,
            wanted=self.wanted.__contains__,
            released=self.released.__contains__,
            stated=lambda: stated,
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

    def put(self, *numbers: int) -> None:
        """Make copies, one each second."""
        for number in numbers:
            data = bytes([number + 1]) * SIZE
            file = self.store.create(Meta(NAMES[number], "g", SIZE, SIZE))
            file.put([Piece(0, data, hashlib.sha256(data).digest())])
            file.used = self.wall
            self.pass_time(1)

    def pass_time(self, seconds: float) -> None:
        self.wall += seconds
        self.clock += seconds

    def file(self, number: int) -> PieceFile:
        file = self.store.get(NAMES[number])
        assert file is not None
        return file

    async def left(self, *, after: float = 0.0) -> list[int]:
        """The copies that the janitor keeps after some seconds."""
        self.pass_time(after)
        await self.janitor.look()
        return self.there()

    async def left_by_room(self, size: int) -> list[int] | None:
        """The copies that the janitor keeps to make room, or ``None`` if it cannot."""
        return self.there() if await self.janitor.make_room(size) else None

    def there(self) -> list[int]:
        return [number for number, name in enumerate(NAMES) if self.store.get(name)]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_age_counts_from_the_last_use(bench: Bench) -> None:
    bench.put(0, 1)
    bench.wanted.add(NAMES[0])
    assert [0, 1] == await bench.left()
    assert [0, 1] == await bench.left(after=98)
    assert [0] == await bench.left(after=1)
    bench.wanted.clear()
    assert [0] == await bench.left()
    assert [0] == await bench.left(after=99)
    assert [] == await bench.left(after=1)
    assert {EvictionCause.AGE: 2} == bench.janitor.evictions


async def test_reading_a_copy_counts_as_a_use(bench: Bench) -> None:
    bench.put(0)
    assert [0] == await bench.left()
    bench.pass_time(99)
    bench.file(0).used = bench.wall
    assert [0] == await bench.left(after=50)


async def test_the_last_use_survives_a_restart(bench: Bench, tmp_path: Path) -> None:
    bench.put(0)
    bench.wanted.add(NAMES[0])
    await bench.left(after=500)  # records the use on the disk
    again = Bench(tmp_path)
    again.wall, again.clock = bench.wall + 99, 50.0
    assert [0] == await again.left()
    assert [] == await again.left(after=5)
    assert bench.wall == bench.file(0).used


async def test_after_a_restart_the_operator_has_time_for_its_statement(bench: Bench) -> None:
    bench.put(0)
    assert [0] == await bench.left(after=1000)
    bench.wanted.add(NAMES[0])
    assert [0] == await bench.left(after=6)


async def test_only_released_copies_age_before_the_first_statement(tmp_path: Path) -> None:
    bench = Bench(tmp_path, stated=False)
    bench.put(0, 1)
    bench.released.add(NAMES[1])  # its lease ended, which needs no operator
    await bench.left(after=1000)
    assert [0] == await bench.left(after=1000)


async def test_a_full_disk_loses_the_least_recently_used_copies(bench: Bench) -> None:
    bench.put(2, 0, 3, 1)
    bench.wanted.add(NAMES[2])  # the oldest, but wanted
    bench.store.disk = Usage(13 * SIZE, 100 * SIZE)  # with the four, 91 % are taken; 80 % is two copies out of reach
    assert [2] == await bench.left()
    assert {EvictionCause.DISK: 3} == bench.janitor.evictions


async def test_eviction_stops_at_the_low_mark(bench: Bench) -> None:
    bench.put(0, 1, 2, 3)
    bench.store.disk = Usage(6 * SIZE, 20 * SIZE)  # with the four, 90 % are taken
    assert [0, 1, 2, 3] == await bench.left()
    bench.store.disk = Usage(5 * SIZE, 20 * SIZE)  # 95 %, of which 80 % may stay
    assert [3] == await bench.left()


async def test_copies_are_evicted_for_room_only_if_that_suffices(bench: Bench) -> None:
    bench.put(0, 1, 2)
    bench.wanted.add(NAMES[0])
    await bench.left()
    bench.store.disk = Usage(4 * SIZE, 1000 * SIZE)  # one is free
    assert await bench.left_by_room(4 * SIZE) is None
    assert [0, 1, 2] == bench.there()
    assert [0, 2] == await bench.left_by_room(2 * SIZE)
    assert [0] == await bench.left_by_room(0)  # something else than bytes is missing
    assert await bench.left_by_room(0) is None
    assert {EvictionCause.ROOM: 2} == bench.janitor.evictions


async def test_without_an_operator_room_is_made_after_a_while(tmp_path: Path) -> None:
    bench = Bench(tmp_path, stated=False)
    bench.put(0)
    await bench.left()
    assert await bench.left_by_room(0) is None
    assert [0] == await bench.left(after=600)
    assert [] == await bench.left_by_room(0)


async def test_a_failed_eviction_is_retried_and_does_not_stop_others(bench: Bench) -> None:
    bench.put(0, 1)
    bench.broken.add(NAMES[0])
    await bench.left()
    assert [0] == await bench.left(after=200)
    bench.broken.clear()
    assert [] == await bench.left()


async def test_leases_for_later_demand_end_only_as_room_is_needed(bench: Bench) -> None:
    bench.store.disk = Usage(4 * SIZE, 4 * SIZE)
    bench.put(0, 1, 2, 3)
    bench.wanted |= set(NAMES)
    bench.spared = [NAMES[2], NAMES[1], NAMES[3]]
    assert [0, 3] == await bench.left_by_room(2 * SIZE)
    assert [NAMES[3]] == bench.spared
