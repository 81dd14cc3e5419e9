"""What a copy keeps over a pause, a restart and a volume that cannot be read."""

import asyncio
import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from pantala_protocol.reasons import Reason
from pantala_protocol.statement import CDNStatus
from testbed.origin import Origin
from tests.support.cdn import TASK, CDNBench
from tests.support.cdn_origin import BODY, MIB, PIECE, bench, order
from tests.support.unprivileged import unprivileged


async def test_pause_keeps_the_pieces_and_trigger_continues(origin: Origin, b: CDNBench) -> None:
    origin.serve("/file", BODY)
    origin.rate = 4 * MIB
    b.cdn.trigger(order(origin))
    await b.until(lambda copy: copy.cached.bit_count() >= 4)
    b.cdn.pause(TASK)
    await asyncio.sleep(0.1)
    paused, sent = b.cdn.status(TASK), origin.body_bytes("/file")
    assert paused.status is CDNStatus.WAITING
    await asyncio.sleep(0.2)
    assert (paused, sent) == (b.cdn.status(TASK), origin.body_bytes("/file"))
    origin.rate = None
    b.cdn.trigger(order(origin))
    copy = await b.ended()
    assert (CDNStatus.SUCCESS, paused.generation) == (copy.status, copy.generation)
    continued = int(origin.requests("/file")[1].range.removeprefix("bytes=").removesuffix("-"))
    assert 0 <= continued - paused.cached.bit_count() * PIECE < PIECE


async def test_a_restart_reads_no_byte_again_that_arrived(tmp_path: Path, origin: Origin) -> None:
    origin.serve("/file", BODY)
    origin.rate = 4 * MIB
    async with bench(tmp_path) as b:
        b.cdn.trigger(order(origin))
        await b.until(lambda copy: copy.cached.bit_count() >= 8)
    origin.rate = None
    async with bench(tmp_path) as b:
        recovered = b.cdn.status(TASK)
        assert (recovered.status, recovered.cached.bit_count() >= 8) == (CDNStatus.WAITING, True)
        b.cdn.trigger(order(origin, digest=f"sha512:{hashlib.sha512(BODY.read(0, BODY.size)).hexdigest()}"))
        copy = await b.ended()
        assert (CDNStatus.SUCCESS, recovered.generation) == (copy.status, copy.generation)
    assert BODY.size - recovered.origin_bytes == origin.log[1].sent
    assert BODY.size - recovered.cached.bit_count() * PIECE >= origin.log[1].sent
    async with bench(tmp_path) as b:
        assert (CDNStatus.SUCCESS, copy.digest) == (b.cdn.status(TASK).status, b.cdn.status(TASK).digest)
        b.cdn.trigger(order(origin))
        await asyncio.sleep(0.05)
    assert len(origin.log) == 2


async def test_only_a_bad_piece_is_fetched_again_after_a_restart(tmp_path: Path, origin: Origin) -> None:
    origin.serve("/file", BODY)
    async with bench(tmp_path) as b:
        b.cdn.trigger(order(origin))
        whole = await b.ended()
        path = b.store.get(TASK).path  # type: ignore[union-attr]
    with path.open("r+b") as file:
        file.seek(3 * PIECE + 5)
        file.write(b"rotten")
    async with bench(tmp_path) as b:
        assert whole.cached & ~(1 << 3) == b.cdn.status(TASK).cached
        b.cdn.trigger(order(origin))
        assert (whole.digest, whole.generation) == ((copy := await b.ended()).digest, copy.generation)
        assert BODY.read(0, BODY.size) == b.data()
    assert [("", 200), (f"bytes={3 * PIECE}-{4 * PIECE - 1}", 206)] == [(a.range, a.status) for a in origin.log]


@pytest.mark.parametrize("name", ["data", "journal", "meta.json"])
async def test_a_copy_with_a_file_that_is_denied_is_read_again(origin: Origin, name: str) -> None:
    """Another program has changed the owner or the mode of the file."""
    origin.serve("/file", BODY)
    with unprivileged() as folder:
        async with bench(folder) as b:
            b.cdn.trigger(order(origin))
            whole = await b.ended()
        (file,) = folder.rglob(name)
        file.chmod(0)
        async with bench(folder) as b:
            b.cdn.trigger(order(origin))
            assert whole.digest == (await b.ended()).digest
            await b.whole(BODY.read(0, BODY.size))
    assert [200, 200] == [access.status for access in origin.log]


async def test_a_copy_on_a_volume_that_cannot_be_read_now_stays(
    tmp_path: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin.serve("/file", BODY)
    async with bench(tmp_path) as b:
        b.cdn.trigger(order(origin))
        whole = await b.ended()
    opened = os.open

    def refuse(path: Path, *arguments: Any, **options: Any) -> int:
        if str(path).endswith("/journal"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opened(path, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        async with bench(tmp_path) as b:
            b.cdn.trigger(order(origin))
            failed = (await b.until(lambda copy: copy.failure)).failure
            assert failed is not None
            assert (Reason.VOLUME_FAILED, False) == (failed.reason, failed.final)
            assert "Mount the disk so that this process can write to it" in failed.message
            patched.undo()
            assert (whole.digest, whole.generation) == ((copy := await b.ended()).digest, copy.generation)
            await b.whole(BODY.read(0, BODY.size))
    assert len(origin.log) == 1
