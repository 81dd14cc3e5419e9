"""Strategies for programs of :mod:`tests.support.origin_program`, and one loop that runs several of them at once."""

import asyncio
import tempfile
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from hypothesis import strategies as st

from pantala_protocol.reasons import Reason
from pantala_protocol.statement import CDNStatus
from pantala_supernode.cdn.segments import Division
from pantala_supernode.outbound.request import Timeouts
from pantala_supernode.tasks.copy import Copy
from testbed.origin import Behaviour, Origin
from tests.support.origin_program import Content, Kill, Program
from tests.support.outbound import http_reader
from tests.support.program_lab import ProgramLab

KIB = 1024
TOGETHER = 12
"""Programs that run at once, so that the time of a stall is used."""
STALL, FIRST_BYTE = 0.3, 0.4
PIECE_SIZES = st.sampled_from([4 * KIB, 8 * KIB, 16 * KIB])
REQUESTS = st.integers(0, 14)
POSITIONS = st.integers(0, 300 * KIB)

# Each changes one behaviour. A list of them composes.
Fault = dict[str, object]
TEMPORARY: list[st.SearchStrategy[Fault]] = [
    st.builds(lambda at: {"reset_after": at}, POSITIONS),
    st.builds(lambda at: {"close_after": at}, POSITIONS),
    st.builds(lambda at: {"stall_after": at}, POSITIONS),
    st.builds(lambda seconds: {"delay": seconds}, st.sampled_from([0.01, 0.05, 0.05, FIRST_BYTE + 0.1])),
    st.builds(lambda status: {"status": status, "headers": {"Retry-After": "1"}}, st.sampled_from([429, 503])),
    st.just({"status": 500}),
    st.builds(lambda count: {"most": count}, st.integers(1, 60 * KIB)),
    st.builds(lambda count: {"shift": count}, st.sampled_from([1, 4 * KIB, 16 * KIB])),
    st.just({"framing": "chunked"}),
]
OTHER: list[st.SearchStrategy[Fault]] = [
    st.just({"ranges": False}),
    st.just({"if_range": False}),
    st.just({"framing": "close"}),
    st.builds(lambda count: {"announced": count}, st.sampled_from([5, -5])),
    st.builds(lambda which: {"validators": which}, st.sampled_from(["all", "etag", "weak", "modified", "none"])),
    st.just({"headers": {"ETag": '"of-another-edge"'}}),
    st.just({"headers": {"Content-Range": "bytes 0-9/10"}}),
    st.builds(lambda status: {"status": status}, st.sampled_from([403, 404, 416])),
]


@st.composite
def programs(draw: st.DrawFn, *, temporary: bool) -> Program:
    """``temporary``: only faults that pass, and the last content is the pinned one, if one is pinned."""
    size = draw(PIECE_SIZES)
    edges = [300 * KIB, 300 * KIB - 1, 16 * size, 24 * size + 1, 3 * size, size, size - 1, 1, 0]
    lengths = st.integers(100 * KIB, 300 * KIB) | st.sampled_from(edges)
    contents = [Content(0, draw(lengths))]
    usual = Behaviour(
        chunk=draw(st.sampled_from([2 * KIB, 6 * KIB, 40 * KIB])),
        rate=draw(st.sampled_from([1e6, 2e6, 6e6])),
        ranges=draw(st.sampled_from([True] * 7 + [False])),
        validators=draw(st.sampled_from(["all", "all", "etag", "etag", "modified", "weak", "none"])),
    )
    changes: dict[int, Fault] = defaultdict(dict)
    for request in sorted(draw(st.lists(REQUESTS, max_size=2) if draw(st.booleans()) else st.just([]))):
        length = draw(st.just(contents[0].size) | lengths)
        contents.append(Content(len(contents), length))
        changes[request]["replace"] = contents[-1]
    faults = st.one_of(TEMPORARY if temporary else TEMPORARY + OTHER)
    for request, fault in draw(st.lists(st.tuples(REQUESTS, faults), max_size=7)):
        changes[request] |= fault
    script = [replace(usual, **changes[number]) for number in range(max(changes, default=-1) + 1)]  # type: ignore[arg-type]
    kill = st.builds(Kill, requests=st.integers(1, 15)) | st.builds(Kill, received=POSITIONS)
    return Program(
        contents=tuple(contents),
        script=tuple(script),
        always=usual,
        pinned=draw(st.none() | (st.just(contents[-1]) if temporary else st.sampled_from(contents))),
        piece_size=size,
        division=Division(
            segment=draw(st.sampled_from([1, 2, 3])) * size,
            window=0.002,
            gain=draw(st.sampled_from([0.0, 0.0, 0.0, 1.25])),
            patience=0.0,
            least=0,
            fast=1e12,
        ),
        connections=draw(st.sampled_from([8, 8, 8, 4, 4, 2, 1])),
        places=draw(st.sampled_from([16, 16, 16, 16, 2, 1])),
        kills=tuple(draw(st.lists(kill, max_size=2) if draw(st.booleans()) else st.just([]))),
    )


class ProgramLoop:
    """One event loop with one lab for all examples of this module."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self.lab = self.runner.run(self._begin())

    async def _begin(self) -> ProgramLab:
        directory = self._stack.enter_context(tempfile.TemporaryDirectory())
        timeouts = Timeouts(first_byte=FIRST_BYTE, stall=STALL)
        origin = await self._stack.enter_async_context(Origin())
        reader = await self._stack.enter_async_context(http_reader(timeouts=timeouts))
        return ProgramLab(origin, reader, Path(directory))

    def run(self, several: list[Program], *, ends: bool) -> None:
        """Run programs at once, and check them. ``ends``: only a digest that another content has is a final failure."""

        async def together() -> None:
            results = await asyncio.gather(*(self.lab.run(program) for program in several))
            failures = []
            for program, (copy, wrong) in zip(several, results, strict=True):
                if ends and copy.status is not CDNStatus.SUCCESS and not _has_other_content(copy, program):
                    wrong.append("faults that pass are final")
                if wrong:
                    failures.append(f"{'; '.join(wrong)}\n{program}\nended as {copy}")
            assert not failures, "\n".join(failures)  # in the error, since many depend on the moment

        self.runner.run(together())

    def close(self) -> None:
        self.runner.run(self._stack.aclose())
        self.runner.close()


def _has_other_content(copy: Copy, program: Program) -> bool:
    """True if the copy failed because the origin served another content whole than the pinned one.

    Without validators, the parts of that content may as well be of two contents. So it is read again a few times.
    """
    failure = copy.failure
    if failure is None or program.pinned is None or len(program.contents) == 1:
        return False
    if failure.reason is Reason.SOURCE_CHANGED:
        return program.always.validators in ("none", "weak")
    others = (each.sha256 for each in program.contents if each != program.pinned)
    return failure.reason is Reason.DIGEST_MISMATCH and any(each in failure.message for each in others)
