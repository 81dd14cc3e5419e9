"""Copies on a volume without room."""

import asyncio
from pathlib import Path

from pantala_protocol.reasons import Reason
from pantala_supernode.tasks.copy import Copy
from testbed.origin import Behaviour, Origin
from tests.support.cdn_origin import BODY, MIB, bench, order
from tests.support.small_disk import disk_free, resize, small_disk


async def test_a_full_volume_is_reported_and_the_copy_continues_by_itself(tmp_path: Path) -> None:
    with small_disk(tmp_path, 2 * MIB) as disk:
        async with Origin() as origin, bench(tmp_path) as b:
            origin.serve("/file", BODY)
            b.cdn.trigger(order(origin))
            copy = await b.until(lambda copy: copy.failure is not None)
            assert copy.failure is not None
            assert (copy.failure.reason, copy.failure.final) == (Reason.VOLUME_FULL, False)
            message = copy.failure.message
            assert message.startswith("The supernode's volume has no room for the file: ")
            await asyncio.sleep(0.2)
            copy = await b.until(lambda copy: copy.failure is not None)
            assert copy.failure is not None
            assert message == copy.failure.message, "the repeated check of the room has another message"
            assert len(origin.log) == 1, "the origin was read although the volume is full"
            resize(disk, 16 * MIB)
            await b.whole(BODY.read(0, BODY.size))


async def test_m1_a_body_without_an_announced_length_never_keeps_a_volume_full(tmp_path: Path) -> None:
    """It may have no end, so what was read of it is freed, and it is not read again soon."""
    with small_disk(tmp_path, 4 * MIB) as disk:
        async with Origin() as origin, bench(disk, headroom=25.0) as b:
            least = [disk_free(disk)]

            def look(copy: Copy) -> bool:
                least.append(disk_free(disk))
                return copy.failure is not None

            origin.serve("/file", BODY, always=Behaviour(framing="chunked", rate=8 * MIB))
            b.cdn.trigger(order(origin))
            copy = await b.until(look)
            assert copy.failure is not None
            assert (copy.failure.reason, copy.failure.final, copy.cached) == (Reason.SOURCE_UNUSABLE, True, 0)
            assert "without announcing a length, and filled the supernode's volume. " in copy.failure.message
            assert min(least) >= MIB, "the headroom was used"
            assert disk_free(disk) > 3.9 * MIB, "the room is not free again"
            assert 1 == len(origin.log)


async def test_m1_an_announced_length_that_needs_the_headroom_is_not_read(tmp_path: Path) -> None:
    with small_disk(tmp_path, BODY.size + MIB // 2) as disk:
        async with Origin() as origin, bench(disk, headroom=25.0) as b:
            origin.serve("/file", BODY)
            b.cdn.trigger(order(origin))
            copy = await b.until(lambda copy: copy.failure is not None)
            assert copy.failure is not None
            assert Reason.VOLUME_FULL == copy.failure.reason
            assert "must stay free" in copy.failure.message
