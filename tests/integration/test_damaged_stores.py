"""Whatever happens to one file of a store: the process starts, serves no wrong byte, and loses one copy at most."""

import contextlib
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pantala_peer.cache.pieces import PieceCache
from pantala_peer.cache.publisher import PublicationRequest, Publisher
from pantala_peer.images.ledger import Ledger, LedgerFile
from pantala_pieces import records
from pantala_pieces.meta import Meta
from pantala_pieces.parts import boot_id
from pantala_pieces.store import PieceStore
from pantala_protocol.images import NodeOrder, NodeOrders, PullOrder
from pantala_supernode.cdn.recorder import Recorder
from pantala_supernode.volume.identity import open_volume
from tests.support.examples import examples
from tests.support.pieces import pieces_of, sha256

SIZE = 1024
TASKS = [digit * 64 for digit in "123"]
CONTENTS = {task: random.Random(task).randbytes(3 * SIZE + 7) for task in TASKS}
UNFINISHED = TASKS[2]
FLIPS, CUTS = examples(100) // 12, max(1, examples(100) // 25)
"""The numbers of bits and of cuts that are tried in each file. Each bit of a record is tried in ``test_records``."""

Damage = Callable[[Path], object]


def fill(store: PieceStore) -> None:
    """Two whole copies, and one with a part of its last piece."""
    for task, content in CONTENTS.items():
        file = store.create(Meta(task, f"g{task[0]}", SIZE, len(content), etag='"e"'))
        pieces = pieces_of(content, SIZE)
        file.put(pieces[:-1] if task == UNFINISHED else pieces)
        if task == UNFINISHED:
            file.extend(len(pieces) - 1, 0, pieces[-1].data[:3])
        else:
            file.update(Meta(task, f"g{task[0]}", SIZE, len(content), '"e"', "", sha256(content)))
        file.close()


def damages(content: bytes) -> Iterator[tuple[str, Damage]]:
    chance = random.Random(len(content))
    for bit in chance.sample(range(8 * len(content)), FLIPS):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit}", _with(bytes(damaged))
    for size in chance.sample(range(len(content)), CUTS):
        yield f"cut {size}", _with(content[:size])
    yield "garbage", _with(b"\xff\xfe" * 500)
    for made in (os.mkfifo, os.mkdir, _foreign_folder, _link):
        yield made.__name__, _instead(made)
    yield "removed", Path.unlink


def _with(content: bytes) -> Damage:
    return lambda path: path.write_bytes(content)


def _instead(make: Damage) -> Damage:
    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


def _link(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _foreign_folder(path: Path) -> None:
    path.mkdir()
    (path / "foreign").write_text("foreign")


def check(root: Path, store: PieceStore) -> None:
    """All copies but one are there with right bytes. The lost one can be stored again."""
    held = {file.meta.task_id: file for file in store}
    intact = set()
    for task, file in held.items():
        content = CONTENTS[task]
        for piece in pieces_of(CONTENTS[task], SIZE):
            with contextlib.suppress(LookupError):
                assert bytes(piece.data) == file.read(piece.number), "a wrong byte is served"
        for number, size in file.parts.items():
            assert content[number * SIZE :][:size] == file.read_part(number), "a wrong byte is continued"
        if file.have.bit_count() == len(pieces_of(CONTENTS[task], SIZE)) - (task == UNFINISHED):
            intact.add(task)
    lost = set(TASKS) - intact
    assert len(lost) <= 1
    for task in lost:
        file = store.create(Meta(task, "new", SIZE, len(CONTENTS[task])))
        file.put(pieces_of(CONTENTS[task], SIZE))
        assert CONTENTS[task] == file.path.read_bytes()
    store.close()


def each_damage(original: Path, copy: Path) -> Iterator[str]:
    """Damage each file of a store in each way, in a fresh copy of the store."""
    for path in sorted(path for path in original.rglob("*") if path.is_file()):
        for name, damage in damages(path.read_bytes()):
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(original, copy)
            damage(copy / path.relative_to(original))
            yield f"{path.relative_to(original)}: {name}"


@pytest.mark.timeout(300)
def test_h3_f17_a_damaged_volume_costs_one_copy(tmp_path: Path) -> None:
    original, copy = tmp_path / "original", tmp_path / "copy"
    fill(PieceStore(open_volume(original, lambda: "id"), durable=False))
    count = 0
    for what in each_damage(original, copy):
        count += 1
        try:
            store = PieceStore(open_volume(copy, lambda: "new"), durable=False)
            for file in store.open():
                recorder = Recorder(file, verified=False)
                recorder.recover()
                assert not file.complete or recorder.missing == 0
            check(copy, store)
        except Exception as error:
            raise AssertionError(what) from error
    assert count > 50


@pytest.mark.timeout(300)
async def test_h3_f17_a_damaged_cache_of_a_node_costs_one_copy(tmp_path: Path) -> None:
    original, copy = tmp_path / "original", tmp_path / "copy"
    store = PieceStore(original / "cache", durable=False)
    store.root.mkdir(parents=True)
    fill(store)
    publisher = Publisher(original)
    publisher.open()
    for task in TASKS[:2]:
        source = original / "cache" / task[:2] / task / "data"
        publisher.publish(PublicationRequest(f"files/{task[0]}", task, source, sha256(CONTENTS[task])[7:]))
    order = NodeOrder("ns/a", "r/a@sha256:" + "a" * 64, PullOrder("run"))
    ledger = Ledger()
    ledger.apply(NodeOrders(1, (order,)), 1)
    LedgerFile(original / "cache" / "images.json").write(ledger.render())
    for what in each_damage(original, copy):
        try:
            cache = PieceCache(copy / "cache")
            await cache.open()
            publisher = Publisher(copy)
            publisher.open()
            assert {"ns/a"} == set(LedgerFile(copy / "cache" / "images.json").read().entries)
            check(copy, cache._store)
            cache.close()
        except Exception as error:
            raise AssertionError(what) from error


def test_h3_the_boot_id_is_known() -> None:
    """Without it, parts would never be continued, and the tests above would prove less."""
    assert 16 == len(boot_id())
    assert records.MAX_RECORD > 0
