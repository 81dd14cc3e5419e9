"""An origin that sends only parts of a file whose length it did not announce at first."""

from pathlib import Path

import pytest

from pantala_protocol.statement import CDNStatus
from pantala_supernode.tasks.copy import FetchOrder, FileSource
from testbed.origin import Behaviour, Bytes, Origin
from tests.support.cdn import TASK, CDNBench
from tests.support.outbound import http_reader

PIECE = 128 * 1024
DATA = b"".join(b"%015d\n" % line for line in range(30_000))


@pytest.mark.parametrize("star", [False, True], ids=["with its length", "without its length"])
async def test_f4_a_part_of_the_rest_is_not_the_end_of_the_file(tmp_path: Path, star: bool) -> None:
    """The first body has no length and is cut. The answer to the request for the rest has only 100,000 bytes of it."""
    part = Behaviour(most=100_000)
    if star:
        end = 2 * PIECE - 1 + 100_000
        part = Behaviour(most=100_001, headers={"Content-Range": f"bytes {2 * PIECE - 1}-{end}/*"})
    async with Origin() as origin, http_reader() as reader:
        script = [Behaviour(framing="chunked", close_after=2 * PIECE, validators="etag"), part]
        origin.serve("/f", Bytes(DATA), script=script, always=Behaviour(validators="etag"))
        async with CDNBench(tmp_path, reader) as bench:
            bench.cdn.trigger(FetchOrder(TASK, FileSource(origin.url("/f"))))
            copy = await bench.until(lambda copy: copy.status is CDNStatus.SUCCESS)
            assert (len(DATA), DATA) == (copy.length, bench.data())
        assert 3 <= len(origin.log)


async def test_an_origin_whose_ranges_are_wrong_is_asked_for_the_whole_file(tmp_path: Path) -> None:
    async with Origin() as origin, http_reader() as reader:
        origin.serve("/f", Bytes(DATA), script=[Behaviour(close_after=3 * PIECE)], always=Behaviour(shift=5))
        async with CDNBench(tmp_path, reader) as bench:
            bench.cdn.trigger(FetchOrder(TASK, FileSource(origin.url("/f"))))
            copy = await bench.whole(DATA)
            assert {copy.generation} == {seen.generation for seen in bench.seen if seen.cached}, "the pieces stay"
        assert ["", "bytes=", "bytes=", "bytes=", ""] == [access.range[:6] for access in origin.log]
