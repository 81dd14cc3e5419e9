"""Power cuts. The disk model lists the states that a cut may leave. The product's own recovery code reads each one."""

import hashlib
import random
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from faults.lossy_disk import CrashState, CrashStates, Recording
from faults.row import Case, Plan, Row, Tally
from pantala_pieces import parts
from pantala_pieces.errors import StoreError
from pantala_pieces.file import Piece, PieceFile
from pantala_pieces.meta import Meta
from pantala_pieces.store import PieceStore
from pantala_protocol import ranges, task_id
from tests.support.pieces import piece_of

SIZE = 600
"""Bytes of a piece: more than a sector, so that a write can be torn."""
STATES = 500
"""The most states of one recording."""
DRAWS = 3 * STATES
TASK = task_id.compute("http://origin/f")


class Workload:
    """What a store does before the power cut, at random: pieces of one or several threads, new contents, repairs."""

    def __init__(self, folder: Path, chance: random.Random, *, durable: bool) -> None:
        self._chance = chance
        self._durable = durable
        self.contents: dict[str, bytes] = {}
        self.recording = Recording(folder)
        self._store = PieceStore(folder, durable=durable)
        self._lock = threading.Lock()

    def run(self) -> CrashStates:
        with self.recording.running():
            self._store.open()
            for number in range(self._chance.choice([1, 1, 2])):
                self._one_content(f"{number:016x}")
            self._store.close()
        return CrashStates(self.recording.changes)

    def _one_content(self, generation: str) -> None:
        chance = self._chance
        content = self.contents[generation] = chance.randbytes(chance.randrange(1, 16 * SIZE))
        self.recording.note(("began", generation, 0))
        known = chance.random() < 0.7
        file = self._store.create(Meta(TASK, generation, SIZE, len(content) if known else None))
        if known and chance.random() < 0.7:
            file.reserve()
        numbers = list(range(-(-len(content) // SIZE)))
        if chance.random() < 0.5:
            chance.shuffle(numbers)
        if chance.random() < 0.5:
            file.extend(numbers[-1], 0, self._piece(generation, numbers[-1]).data[:99])
        if chance.random() < 0.3:
            self._in_threads(file, generation, numbers)
        else:
            while numbers:
                count = chance.randrange(1, 4)
                self._put(file, generation, numbers[:count])
                del numbers[:count]
        if chance.random() < 0.3:
            file.forget(1)
            self.recording.note(("forgotten", generation, 0))
            self._put(file, generation, [0])
        if chance.random() < 0.7:
            digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
            if not self._durable:
                file.sync()
            file.close()
            file.update(msgspec.structs.replace(file.meta, digest=digest, length=len(content)))

    def _in_threads(self, file: PieceFile, generation: str, numbers: list[int]) -> None:
        threads = [threading.Thread(target=lambda own=numbers[n::2]: self._put(file, generation, own)) for n in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _put(self, file: PieceFile, generation: str, numbers: list[int]) -> None:
        file.put([self._piece(generation, number) for number in numbers])
        if self._durable:
            self._acknowledge(generation, numbers)

    def _acknowledge(self, generation: str, numbers: range | list[int]) -> None:
        for number in numbers:
            self.recording.note(("stored", generation, number))

    def _piece(self, generation: str, number: int) -> Piece:
        return piece_of(number, self.contents[generation][number * SIZE : (number + 1) * SIZE])


class Recovery:
    """Opens a store in a crash state, as the next process does, and compares it with what was stored."""

    def __init__(self, contents: dict[str, bytes], folder: Path) -> None:
        self._contents = contents
        self._folder = folder

    def problems(self, state: CrashState, *, go_on: bool) -> Iterator[str]:
        self._write(state)
        store = PieceStore(self._folder, durable=False)
        try:
            files = store.open()
        except Exception as error:
            yield f"the store does not open: {error!r}"
            return
        expected = self._acknowledged(state)
        for file in files:
            yield from self._compare(file, expected)
            if go_on:
                yield from self._continue(file)
        if expected and not files:
            yield f"all {len(expected)} acknowledged pieces are lost with their file"
        store.close()

    def _acknowledged(self, state: CrashState) -> set[tuple[str, int]]:
        """The pieces of the newest content that must be there."""
        found: dict[tuple[str, int], None] = {}
        newest = ""
        for kind, generation, number in state.facts:
            newest = generation
            if kind == "stored":
                found[generation, number] = None
            elif kind == "forgotten":
                found.pop((generation, number), None)
        return {each for each in found if each[0] == newest}

    def _compare(self, file: PieceFile, expected: set[tuple[str, int]]) -> Iterator[str]:
        content = self._contents.get(file.meta.generation)
        if content is None:
            yield f"the store names a content that never was: {file.meta}"
            return
        have = set(ranges.members(file.verify()))
        for number in have:
            right = content[number * SIZE : (number + 1) * SIZE]
            if right != file.read(number):
                yield f"piece {number} is served with wrong bytes"
        lost = {number for generation, number in expected if generation == file.meta.generation} - have
        if lost:
            yield f"the acknowledged pieces {sorted(lost)} are lost"

    def _continue(self, file: PieceFile) -> Iterator[str]:
        """Store the missing pieces, as after the restart."""
        content = self._contents.get(file.meta.generation, b"")
        if file.complete or not content:
            return
        data = {n: content[n * SIZE : (n + 1) * SIZE] for n in range(-(-len(content) // SIZE))}
        try:
            file.put([piece_of(n, piece) for n, piece in data.items() if not file.have >> n & 1])
        except StoreError as error:
            yield f"the store does not continue: {error}"
            return
        if {n for n in data if data[n] == file.read(n)} != set(data) or file.verify() != (1 << len(data)) - 1:
            yield "the store does not have all pieces after it continued"

    def _write(self, state: CrashState) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        for path, content in state.files.items():
            if content is None:
                (self._folder / path).mkdir()
            else:
                (self._folder / path).write_bytes(content)


@contextmanager
def rebooted() -> Iterator[None]:
    """The machine has another boot ID, as after a power cut."""
    former = parts.boot_id
    parts.boot_id = lambda: b"another boot ID."
    try:
        yield
    finally:
        parts.boot_id = former


async def states(plan: Plan, tally: Tally) -> None:
    """Record workloads, and recover from the states that a power cut may leave."""
    for case in plan.cases(STATES // 2):
        durable = case.number % 4 != 3
        workload = Workload(plan.folder / f"{case.number}", case.chance, durable=durable)
        drawn = workload.run()
        with rebooted():
            _recover(case, drawn, Recovery(workload.contents, plan.folder / "state"), tally)
        tally.add(**{"recordings_of_a_supernode" if durable else "recordings_of_a_peer": 1})


def _recover(case: Case, drawn: CrashStates, recovery: Recovery, tally: Tally) -> None:
    """Recover from different states. A short recording has only few of them."""
    seen: set[int] = set()
    for _ in range(DRAWS):
        state = drawn.draw(case.chance)
        key = hash((tuple(sorted((path, data or b"") for path, data in state.files.items())), len(state.facts)))
        if key in seen:
            continue
        seen.add(key)
        problems = list(recovery.problems(state, go_on=len(seen) % 10 == 0))
        tally.check(not problems, f"{'; '.join(problems)}: {state.lost}", case)
        if len(seen) == STATES:
            break
    tally.add(states=len(seen))


ROWS = (
    Row("power-cuts", "unsynced writes, lengths and names are lost or torn in a power cut",
        "No acknowledged piece is lost, no wrong piece is served, and the store continues.", ("F2", "A7"), 100_000,
        3_000, "states", states),
)  # fmt: skip
