"""Runs programs of :mod:`tests.support.origin_program`, and compares what happens with the promises of the CDN."""

from __future__ import annotations

import asyncio
import functools
import random
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from pantala_protocol.geometry import PieceSizes
from pantala_protocol.ranges import members
from pantala_protocol.statement import CDNStatus
from pantala_supernode.errors import SourceError
from pantala_supernode.origin.body import Body, Layout
from pantala_supernode.origin.limits import Gate
from pantala_supernode.origin.source import Answer, Resume, SourceReader
from pantala_supernode.tasks.copy import Copy, FetchOrder, FileSource
from testbed.origin import Access, Origin
from tests.support.cdn import TASK, CDNBench
from tests.support.eventually import eventually
from tests.support.origin_program import Kill, Program, piece_digests


@dataclass
class _Opened:
    """One request of the CDN, and what became of its body."""

    bench: LifeBench
    end: int | None
    """The byte after the last one that was requested. ``None``: the end of the file."""
    offset: int = 0
    length: int | None = None
    skipped: int = 0
    delivered: int = 0
    """Bytes of whole pieces that the CDN received."""
    whole: bool = False
    """The body was read to its end."""
    failed: bool = False
    """The origin ended the body too early."""
    received: int = 0
    saved: Counter[int] = field(default_factory=Counter)
    """Bytes of unfinished pieces that were saved, by piece."""


class Watch:
    """Compares what the CDN requests, receives and shows with its promises. It collects what is wrong."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.wrong: list[str] = []
        self.requests = 0
        self.opened: list[_Opened] = []
        self.bench: LifeBench
        self._shown: dict[str, int] = {}
        self._digests: dict[str, dict[int, bytes]] = defaultdict(dict)
        self._arrived: Counter[tuple[LifeBench, str, int]] = Counter()

    def begin(self, bench: LifeBench) -> None:
        self.bench = bench
        self._shown = {}

    def check(self, what: object, text: str) -> None:
        if not what:
            self.wrong.append(text)

    def decides(self, kill: Kill | None, copy: Copy) -> bool:
        """True if a life is over: the copy has ended, or the process is killed now."""
        return _ended(copy) or (kill is not None and kill.due(self.requests, copy.origin_bytes))

    # What the origin sees.

    def requested(self, access: Access) -> None:
        """A request arrived. It must not ask for durable pieces of the content that the copy has."""
        self.requests += 1
        if self.opened[int(access.headers["x-number"])].bench is not self.bench:
            return
        self.bench.changed.set()
        copy = self.bench.cdn.status(TASK)
        file = self.bench.store.get(TASK)
        match = re.fullmatch(r"bytes=([0-9]+)-([0-9]*)", access.range)
        if match is None:
            named = file is not None and file.meta.validator
            self.check(not copy.cached or not (named or self.program.pinned), "the whole file is requested again")
            return
        size = self.program.piece_size
        first, end = int(match[1]), int(match[2]) + 1 if match[2] else copy.length or 0
        again = [n for n in members(copy.cached) if n * size < end and (n + 1) * size > first]
        self.check(not again, f"durable pieces {again} are requested again by {access.range}")

    # What the CDN asks for and receives.

    def asks(self, bench: LifeBench, resume: Resume | None) -> None:
        """A request begins. It must not ask for saved parts again, but for the last byte before and in a part."""
        file = bench.store.get(TASK)
        if resume is None or resume.complete or file is None:
            return
        size, end = self.program.piece_size, resume.end or 10**9
        for piece, saved in list(file.parts.items()):
            again = min(end, piece * size + saved) - max(resume.offset, piece * size)
            self.check(again <= 2, f"{again} bytes of the part of piece {piece} are requested again")

    def arrived(self, opened: _Opened, piece: int, length: int, prefix: int) -> None:
        """A block arrived. A whole piece must not arrive twice in one life, unless it is the last one.

        The first ``prefix`` bytes of the block were on the volume.
        """
        copy, size = opened.bench.cdn.status(TASK), self.program.piece_size
        last = copy.total is None or piece + 1 >= copy.total
        if length == size or (last and copy.length in (None, piece * size + length)):
            opened.delivered += length - prefix
        if length == size and not last:
            self._arrived[opened.bench, copy.generation, piece] += 1
            times = self._arrived[opened.bench, copy.generation, piece]
            self.check(times == 1, f"piece {piece} arrived {times} times")

    # What the CDN shows.

    def look(self, copy: Copy) -> None:
        program = self.program
        if copy.status is CDNStatus.SUCCESS:
            allowed = program.served if program.pinned is None else (program.pinned,)
            self.check(copy.digest in {content.sha256 for content in allowed}, "a whole copy has another digest")
        before = self._shown.get(copy.generation, 0)
        self.check(before & copy.cached == before, "a shown piece is missing in its generation")
        self._shown[copy.generation] = copy.cached
        digests = {number: self.bench.cdn.piece_digest(TASK, number) for number in members(copy.cached)}
        known = self._digests[copy.generation]
        self.check(all(known.get(number, digest) == digest for number, digest in digests.items()), "a piece changed")
        known.update(digests)
        if program.pinned is None and digests:
            right = any(digests.items() <= piece_digests(each, program.piece_size).items() for each in program.served)
            self.check(right, "the pieces of one generation are not of one content")

    def conclude(self, copy: Copy, data: bytes, log: list[Access]) -> None:
        """Check the outcome, and that no byte was read in vain."""
        program = self.program
        if copy.status is CDNStatus.SUCCESS:
            allowed = program.served if program.pinned is None else (program.pinned,)
            self.check(any(data == each.data for each in allowed), "the volume has bytes that the origin never served")
        else:
            self.check(copy.failure is not None, f"the copy ended as {copy.status} without a failure")
            kept = copy.cached | (0 if copy.total is None else 1 << copy.total >> 1)
            now = {n for (bench, gen, n) in self._arrived if (bench, gen) == (self.bench, copy.generation)}
            self.check(all(kept >> n & 1 for n in now), f"of the pieces {now}, not all were kept")
        sent = {int(access.headers["x-number"]): access.sent for access in log if access.status in (200, 206)}
        for number, opened in enumerate(self.opened):
            kept = opened.delivered + opened.saved.total()
            in_vain = opened.received - min(opened.skipped, opened.received) - kept
            end = opened.offset + opened.received
            if opened.whole and end in (opened.end, opened.length):
                self.check(in_vain == 0, f"request {number} was answered, but {in_vain} of its bytes are not kept")
                shown = not any(how.announced < 0 for how in program.script)
                self.check(
                    not shown or opened.received == sent[number],
                    f"request {number}: {opened.received} of {sent[number]}",
                )
            elif opened.whole:
                self.check(in_vain < program.piece_size, f"request {number} ended early, and lost {in_vain} bytes")
            elif opened.failed:
                self.check(in_vain == 0, f"request {number} was cut, and lost {in_vain} bytes")


class _WatchedBody:
    def __init__(self, body: Body, opened: _Opened, watch: Watch) -> None:
        self._body = body
        self._opened = opened
        self._watch = watch

    @property
    def received(self) -> int:
        return self._body.received

    @property
    def held(self) -> bool:
        return self._body.held

    def stop_at(self, end: int) -> None:
        self._body.stop_at(end)

    async def blocks(self, layout: Layout) -> AsyncGenerator[bytearray, None]:
        opened = self._opened
        prefix = len(layout.prefix)
        opened.skipped = layout.skip
        first = (opened.offset + layout.skip - prefix) // layout.size

        def save(number: int, start: int, data: memoryview) -> None:
            opened.saved[first + number] += len(data)
            if layout.save is not None:
                layout.save(number, start, data)

        piece = first
        try:
            async for block in self._body.blocks(replace(layout, save=save)):
                opened.saved.pop(piece, None)
                self._watch.arrived(opened, piece, len(block), prefix if piece == first else 0)
                yield block
                piece += 1
            opened.whole = True
        except SourceError:
            opened.failed = True
            raise
        finally:
            opened.received = self._body.received


class WatchedReader:
    """Numbers all requests, and reports their bodies."""

    def __init__(self, reader: SourceReader, watch: Watch) -> None:
        self._reader = reader
        self._watch = watch
        self.bench: LifeBench

    @asynccontextmanager
    async def open(self, source: FileSource, resume: Resume | None = None) -> AsyncIterator[Answer]:
        watch = self._watch
        opened = _Opened(self.bench, resume.end if resume is not None else None)
        watch.asks(self.bench, resume)
        watch.opened.append(opened)
        numbered = replace(source, headers={"X-Number": str(len(watch.opened) - 1)})
        async with self._reader.open(numbered, resume) as answer:
            opened.offset, opened.length = answer.offset, answer.length
            yield replace(answer, body=_WatchedBody(answer.body, opened, watch))


class LifeBench(CDNBench):
    """The CDN of one life of the process."""

    def __init__(self, directory: Path, reader: WatchedReader, watch: Watch) -> None:
        program = watch.program
        reader.bench = self
        super().__init__(
            directory,
            reader,
            rng=random.Random(),
            piece_sizes=PieceSizes(lambda _: program.piece_size, lambda _: program.piece_size),
            connections=program.connections,
            division=program.division,
            gate=Gate(program.places),
        )
        self._watch = watch
        watch.begin(self)

    def _on_change(self, task: str) -> None:
        if self._watch.bench is self:  # a killed life is not seen any more
            self._watch.look(self.cdn.status(TASK))
            self.changed.set()

    async def _sleep(self, delay: float) -> None:
        self.delays.append(delay)
        await asyncio.sleep(0 if delay < 100 else 3600)

    async def snapshot(self, directory: Path) -> int:
        """Copy the volume between two writes. Returns the durable pieces in it."""
        copy = self.cdn.copies.get(TASK)
        if copy is None:
            return 0

        def take() -> int:
            recorder = copy.attempts.recorder
            shutil.copytree(self.store.root, directory)
            return recorder.have if recorder is not None else 0

        return await copy.executor.run(take)


class ProgramLab:
    """An origin and a reader for many programs at once."""

    def __init__(self, origin: Origin, reader: SourceReader, directory: Path) -> None:
        self._origin = origin
        self._reader = reader
        self._directory = directory
        self._watches: dict[str, Watch] = {}
        self._runs = 0
        origin.on_request = lambda access: self._watches[access.path].requested(access)

    async def run(self, program: Program) -> tuple[Copy, list[str]]:
        """Run one program. Returns its last copy, and what was wrong."""
        self._runs += 1
        path, directory = f"/{self._runs}", self._directory / str(self._runs)
        watch = self._watches[path] = Watch(program)
        self._origin.serve(path, program.contents[0], script=program.script, always=program.always)
        try:
            copy, data = await self._live(watch, self._origin.url(path), directory)
        finally:
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
        log = self._origin.requests(path)
        await eventually(lambda: all(access.ended is not None for access in log), what="all connections are closed")
        watch.conclude(copy, data, log)
        self._origin.log = [access for access in self._origin.log if access.path != path]
        return copy, watch.wrong

    async def _live(self, watch: Watch, url: str, directory: Path) -> tuple[Copy, bytes]:
        """Read until the copy is whole or abandoned, through all kills."""
        pinned = watch.program.pinned
        order = FetchOrder(TASK, FileSource(url, digest=pinned.sha256 if pinned is not None else None))
        closing: list[asyncio.Task[None]] = []
        durable = 0
        for number, kill in enumerate([*watch.program.kills, None]):
            bench = LifeBench(directory / str(number), WatchedReader(self._reader, watch), watch)
            await bench.cdn.recover()
            found = bench.cdn.status(TASK).cached
            watch.check(found & durable == durable, f"of the durable pieces {durable:b}, {found:b} survived the kill")
            bench.cdn.trigger(order)
            try:
                copy = await bench.until(functools.partial(watch.decides, kill))
            except TimeoutError:
                copy = bench.cdn.status(TASK)
                watch.check(False, f"it does not end: {watch.requests} requests, the last tries {bench.delays[-5:]}")
                break
            if _ended(copy) or kill is None:
                break
            durable = await bench.snapshot(directory / str(number + 1))
            closing.append(asyncio.create_task(bench.cdn.copies.close()))
        data = bench.data() if copy.total else b""
        await asyncio.gather(*closing, bench.cdn.copies.close())
        return copy, data


def _ended(copy: Copy) -> bool:
    return copy.status is CDNStatus.SUCCESS or (copy.failure is not None and copy.failure.final)
