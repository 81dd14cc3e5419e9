"""The volume: its identity, the choice of copies to evict, and the janitor with a real store and fake clocks."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from pantala_pieces import records
from pantala_pieces.errors import StoreError
from pantala_pieces.file import PieceFile
from pantala_pieces.meta import Meta
from pantala_pieces.store import PieceStore
from pantala_pieces.usage import Usage
from pantala_pieces.writing import alone
from pantala_protocol import task_id
from pantala_protocol.task_id import TaskID
from pantala_supernode.errors import VolumeFailedError
from pantala_supernode.volume.eviction import EvictionCause, Housekeeping, Unwanted, aged, least_recently_used
from pantala_supernode.volume.identity import Volume, open_volume
from pantala_supernode.volume.janitor import Janitor
from tests.support.pieces import piece_of

NAMES = [task_id.compute(str(number)) for number in range(8)]
SIZE = 128 * 1024
RULES = Housekeeping(grace=5.0, kept_for=100.0, high=90, low=80)


class SmallDisk(PieceStore):
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
        self.claimed: set[TaskID] = set()
        self.store = SmallDisk(directory, durable=False)
        self.store.open()
        self.janitor = Janitor(
            self.store,
            self.delete,
            wanted=self.wanted.__contains__,
            released=self.released.__contains__,
            stated=lambda: stated,
            rules=RULES,
            spare=self.spare,
            claimed=self.claimed.__contains__,
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
            file.put([piece_of(0, data)])
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


async def test_a_lack_of_room_is_logged_once(bench: Bench) -> None:
    bench.store.disk = Usage(SIZE, 1000 * SIZE)
    with capture_logs() as logged:
        for seconds in (300, 300, 601, 1):
            assert await bench.left_by_room(2 * SIZE) is None
            bench.pass_time(seconds)
    assert [2 * SIZE] * 2 == [each["needed"] for each in logged if "the volume has no room" in each["event"]]


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
    bench.wanted |= set(NAMES[:4])
    bench.spared = [NAMES[2], NAMES[1], NAMES[3]]
    assert [0, 3] == await bench.left_by_room(2 * SIZE)
    assert [NAMES[3]] == bench.spared


async def test_a_length_beyond_the_disk_costs_no_copy(bench: Bench) -> None:
    bench.store.disk = Usage(4 * SIZE, 4 * SIZE)
    bench.put(0, 1)
    bench.wanted |= set(NAMES[:2])
    bench.spared = [NAMES[0], NAMES[1]]
    assert await bench.left_by_room(1 << 62) is None
    assert (NAMES[:2], [0, 1]) == (bench.spared, bench.there())


async def test_a_length_beyond_what_the_leases_hold_ends_none_of_them(bench: Bench) -> None:
    """Otherwise one announced length would cost all nodes the blobs that they keep."""
    bench.store.disk = Usage(6 * SIZE, 6 * SIZE)
    bench.put(0, 1, 2, 3)
    bench.wanted |= set(NAMES[:4])
    bench.claimed |= set(NAMES[:2])
    bench.spared = [NAMES[2], NAMES[3]]
    assert await bench.left_by_room(5 * SIZE) is None
    assert (NAMES[2:4], [0, 1, 2, 3]) == (bench.spared, bench.there())
    assert [0, 1] == await bench.left_by_room(4 * SIZE)


COPIES = st.lists(
    st.builds(Unwanted, st.sampled_from(NAMES), st.floats(0, 1000, allow_nan=False), st.integers(0, 1000)),
    unique_by=lambda copy: copy.task_id,
)


@given(COPIES, st.integers(-10, 5000))
def test_the_least_recently_used_copies_are_chosen_and_no_more_than_needed(copies: list[Unwanted], needed: int) -> None:
    chosen = least_recently_used(copies, needed)
    kept = [copy for copy in copies if copy not in chosen]
    assert sum(copy.size for copy in chosen) >= min(needed, sum(copy.size for copy in copies))
    assert sum(copy.size for copy in chosen[:-1]) < max(needed, 1)
    assert all(gone.used <= copy.used for gone in chosen for copy in kept)
    assert needed > 0 or chosen == []


@given(COPIES, st.floats(0, 2000), st.floats(0, 2000))
def test_age_alone_decides_what_is_too_old(copies: list[Unwanted], now: float, kept_for: float) -> None:
    gone = aged(copies, now=now, kept_for=kept_for)
    assert {copy.task_id: now - copy.used >= kept_for for copy in copies} == {
        copy.task_id: copy in gone for copy in copies
    }


@given(st.integers(1, 10**15), st.floats(0, 1), st.integers(1, 100), st.integers(1, 100))
def test_above_the_high_mark_eviction_reaches_the_low_mark(total: int, share: float, one: int, other: int) -> None:
    usage, marks = Usage(int(total * share), total), replace(RULES, high=max(one, other), low=min(one, other))
    excess = marks.excess(usage)
    taken = total - usage.free
    if taken <= total * marks.high / 100:
        assert excess == 0
    else:
        assert taken - excess <= total * marks.low / 100 + 1
    assert 0 <= excess <= taken


def test_the_marks_mean_percent() -> None:
    assert [0, 11, 20] == [RULES.excess(Usage(free, 100)) for free in (10, 9, 0)]


def test_an_empty_directory_becomes_a_volume(tmp_path: Path) -> None:
    first = open_volume(tmp_path / "data", lambda: "one")
    assert tmp_path / "data" / "tasks" == first
    assert Volume(1, "one", "tasks") == records.load(tmp_path / "data" / "volume.json", Volume)
    assert first == open_volume(tmp_path / "data", lambda: "two")


@pytest.mark.parametrize(
    "content",
    [b'{"format": 2, "id": "x", "tasks": "tasks"}', b"garbage", b'{"format": 1, "id": "x", "tasks": "../up"}'],
)
def test_another_format_is_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tasks" / "ab").mkdir(parents=True)
    (tmp_path / "volume.json").write_bytes(content)
    assert tmp_path / "tasks-one" == open_volume(tmp_path, lambda: "one")
    assert (tmp_path / "tasks" / "ab").is_dir()
    assert content == (tmp_path / "volume.json.before-one").read_bytes()
    assert tmp_path / "tasks-one" == open_volume(tmp_path, lambda: "two")


def test_tasks_without_a_volume_file_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "tasks" / "ab").mkdir(parents=True)
    assert tmp_path / "tasks-one" == open_volume(tmp_path, lambda: "one")


def test_a_directory_that_cannot_be_created_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        StoreError, match=r"/file: it is a file and not a directory\. Give a folder of a disk as --data"
    ):
        open_volume(tmp_path / "file", lambda: "one")
    with pytest.raises(StoreError, match=r"open the volume .*/data: Not a directory\. Give a folder"):
        open_volume(tmp_path / "file" / "data", lambda: "one")


async def test_a_volume_is_locked_by_one_supernode(tmp_path: Path) -> None:
    lock = partial(alone, tmp_path, "supernode", "--data")
    async with lock():
        with pytest.raises(StoreError, match="another supernode uses it"):
            async with lock():
                pass
    async with lock():
        pass
