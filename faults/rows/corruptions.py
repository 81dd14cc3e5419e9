"""Flipped bits: in files of a store, and on the wire."""

import hashlib
import random
import shutil
from pathlib import Path

import msgspec
from aiohttp import web

from faults.row import Case, Plan, Row, Tally
from pantala_pieces.journal import decode
from pantala_pieces.meta import Meta
from pantala_pieces.store import PieceStore
from pantala_protocol import ranges, task_id
from pantala_protocol.statement import CDNStatus, TaskReport, WantedTask
from pantala_supernode.cdn.recorder import Recorder
from testbed.origin import Bytes, Origin
from tests.support.eventually import eventually
from tests.support.peer_lab import PeerLab
from tests.support.pieces import pieces_of
from tests.support.scripted_files import File
from tests.support.scripted_supernode import ScriptedSupernode
from tests.support.supernode_lab import SupernodeLab

SIZE = 512
PIECES = 12
TASK = task_id.compute("http://origin/f")
TRIES = 250
"""The damaged states of one store."""


def flipped(data: bytes, chance: random.Random, bits: int = 1) -> bytes:
    """The data with some bits flipped."""
    changed = bytearray(data)
    for _ in range(bits if changed else 0):
        place = chance.randrange(8 * len(changed))
        changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


async def on_disk(plan: Plan, tally: Tally) -> None:
    """Flip bits of data, journal and metadata. The next process recovers, and completes the file."""
    for case in plan.cases(TRIES):
        content = case.chance.randbytes(case.chance.randrange(1, PIECES * SIZE))
        files = _stored(plan.folder / "whole", content, whole=case.chance.random() < 0.5)
        for _ in range(TRIES):
            _damage(plan.folder / "damaged", files, content, case, tally)


def _stored(folder: Path, content: bytes, *, whole: bool) -> dict[Path, bytes]:
    """The files of a store with all pieces, or with every second one."""
    shutil.rmtree(folder, ignore_errors=True)
    store = PieceStore(folder, durable=False)
    store.open()
    file = store.create(Meta(TASK, "0" * 16, SIZE, len(content), etag='"v1"'))
    file.put(pieces_of(content, SIZE)[:: 1 if whole else 2])
    if whole:
        file.update(msgspec.structs.replace(file.meta, digest=f"sha256:{hashlib.sha256(content).hexdigest()}"))
    store.close()
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _damage(folder: Path, files: dict[Path, bytes], content: bytes, case: Case, tally: Tally) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    harmed = case.chance.choice(sorted(files))
    bits = case.chance.choice([1, 1, 1, 2, 9])
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(flipped(data, case.chance, bits) if path == harmed else data)
    tally.add(corruptions=1, **{f"in_{harmed.name.partition('.')[0]}": 1})
    try:
        problem = _recovered(folder, content, _undamaged(folder, files, harmed))
    except Exception as error:
        problem = f"the next process fails: {error!r}"
    tally.check(problem is None, f"{bits} bits of {harmed.name}: {problem}", case)
    tally.add(delivered=int(problem is not None))


def _undamaged(folder: Path, files: dict[Path, bytes], harmed: Path) -> int | None:
    """The pieces (bit mask) that the damage does not concern. ``None``: it concerns the record of the whole copy."""
    if harmed.name.startswith("meta"):
        return None
    journal = next(path for path in files if path.name == "journal")
    stored = {record.piece for record in decode((folder / journal).read_bytes())}
    if harmed.name == "data":
        before, after = files[harmed], (folder / harmed).read_bytes()
        parts = {number: slice(number * SIZE, (number + 1) * SIZE) for number in stored}
        stored = {number for number, part in parts.items() if before[part] == after[part]}
    return sum(1 << number for number in stored)


def _recovered(folder: Path, content: bytes, undamaged: int | None) -> str | None:
    """What is wrong with the pieces of the next process, at first and when the file is complete again."""
    store = PieceStore(folder, durable=False)
    store.open()
    file = store.get(TASK)
    if file is None:
        return None if undamaged is None else "the copy is lost"
    right = ("0" * 16, SIZE, len(content), '"v1"', "")
    meta = file.meta
    if right != (meta.generation, meta.piece_size, meta.length, meta.etag, meta.last_modified):
        return f"the wrong metadata were accepted: {meta}"
    recorder = Recorder(file, verified=False)
    recorder.recover()
    if undamaged is not None and undamaged & ~recorder.have:
        return f"the undamaged pieces {ranges.render(undamaged & ~recorder.have)} are lost"
    if file.meta.digest and recorder.missing:
        return "it counts as complete without all pieces"
    for number in ranges.members(recorder.have):
        if content[number * SIZE : (number + 1) * SIZE] != file.read(number):
            return f"piece {number} has wrong bytes"
    file.put([piece for piece in pieces_of(content, SIZE) if not recorder.have >> piece.number & 1])
    again = file.path.read_bytes()
    store.close()
    return None if content == again else "the completed file has wrong bytes"


class CorruptingSupernode(ScriptedSupernode):
    """Flips a bit of most bodies on their way to the peer."""

    def __init__(self, chance: random.Random, wanted: int) -> None:
        super().__init__()
        self._chance = chance
        self.left = wanted
        self.flips = 0
        self.window = 16

    async def _piece(self, request: web.Request) -> web.Response:
        response = await super()._piece(request)
        if isinstance(response.body, bytes) and self.left > 0 and self._chance.random() < 0.8:
            self.left -= 1
            self.flips += 1
            response.body = flipped(response.body, self._chance)
        return response


WIRE = 500
"""The flips of one peer's life."""


async def on_the_wire(plan: Plan, tally: Tally) -> None:
    """Flip bits of pieces on their way to a real peer, until it has the file."""
    for case in plan.cases(WIRE):
        supernode = CorruptingSupernode(case.chance, WIRE)
        content = case.chance.randbytes(160 * 4096 - 5)
        file = File("a", content, piece_size=4096)
        async with supernode.serving():
            lab = PeerLab(plan.folder / str(case.number), supernode)
            async with lab.peer():
                await supernode.deliver(file)
                await eventually(lambda: supernode.left == 0 or lab.published().exists(), within=60)  # noqa: B023
                await supernode.until_published(timeout=60)
            seen = sum(failure.kind == "corrupt" for failure in supernode.failures)
            wrong = content != lab.published().read_bytes()
            tally.check(not wrong, "a corrupt file was published", case)
            tally.check(seen == supernode.flips, f"of {supernode.flips} corrupt pieces, {seen} were reported", case)
            tally.add(corruptions=supernode.flips, reported=seen, delivered=int(wrong))


async def at_the_origin(plan: Plan, tally: Tally) -> None:
    """Flip bits of an origin's bodies. The Task pins the digest of the right content."""
    async with SupernodeLab(plan.folder, grace=0.1) as lab, Origin() as origin:
        for case in plan.cases():
            content = case.chance.randbytes(case.chance.randrange(1, 400_000))
            path = f"/{case.number}"
            origin.serve(path, Bytes(flipped(content, case.chance)))
            pinned = f"sha256:{hashlib.sha256(content).hexdigest()}"
            name = task_id.compute(origin.url(path), digest=pinned)
            await lab.state(WantedTask("u", "ns/n", name, origin.url(path), digest=pinned))
            changes = await lab.until(lambda found: found.tasks and _has_ended(found.tasks[0]))
            done = changes.tasks[0].cdn_status is CDNStatus.SUCCESS
            tally.check(not done, "a copy with the wrong digest counts as whole", case)
            tally.add(corruptions=1, delivered=int(done))
            await lab.state()


def _has_ended(report: TaskReport) -> bool:
    return report.cdn_status is CDNStatus.SUCCESS or report.failure is not None


PROMISE = "No flipped bit is delivered. The damaged pieces are read again."
ROWS = (
    Row("flips-on-disk", "bits of data, journal and metadata flip on the disk", PROMISE, ("F21", "H3"), 6_000, 1_000,
        "corruptions", on_disk),
    Row("flips-at-origins", "bits of an origin's body flip; the Task names the digest", PROMISE, ("F5",), 200, 10,
        "corruptions", at_the_origin),
    Row("flips-on-the-wire", "bits of pieces flip on the way to a peer", PROMISE, ("F7", "A15"), 5_000, 500,
        "corruptions", on_the_wire),
)  # fmt: skip
