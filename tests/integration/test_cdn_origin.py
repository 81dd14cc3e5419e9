"""The scripted origin: its log must be correct."""

import asyncio
import hashlib
from collections.abc import Mapping

import aiohttp
import pytest

from testbed.origin import Behaviour, Bytes, Generated, Origin, sha256

KIB = 1024
BODY = Generated(300 * KIB + 7)


async def read(url: str, **headers: str) -> tuple[int, bytes, Mapping[str, str]]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as session,
        session.get(url, headers=names) as got,
    ):
        return got.status, await got.read(), got.headers


async def test_a_body_is_sent_whole_and_counted() -> None:
    async with Origin() as origin:
        origin.serve("/file", BODY)
        status, data, headers = await read(origin.url("/file"))
    assert status == 200
    assert sha256(BODY) == hashlib.sha256(data).hexdigest()
    assert BODY.size == origin.body_bytes("/file")
    assert headers["ETag"] == f'"{BODY.etag}"'


@pytest.mark.parametrize(
    ("asked", "first", "end"), [("5-", 5, BODY.size), ("0-0", 0, 1), ("-3", BODY.size - 3, BODY.size)]
)
async def test_a_range_is_answered_with_its_bytes(asked: str, first: int, end: int) -> None:
    async with Origin() as origin:
        origin.serve("/file", BODY)
        status, data, headers = await read(origin.url("/file"), Range=f"bytes={asked}", If_Range=f'"{BODY.etag}"')
    assert status == 206
    assert BODY.read(first, end - first) == data
    assert headers["Content-Range"] == f"bytes {first}-{end - 1}/{BODY.size}"


async def test_a_range_of_another_content_is_answered_with_the_whole() -> None:
    async with Origin() as origin:
        origin.serve("/file", BODY)
        status, data, _ = await read(origin.url("/file"), Range="bytes=5-", If_Range='"another"')
    assert (status, len(data)) == (200, BODY.size)


async def test_a_range_after_the_end_is_refused() -> None:
    async with Origin() as origin:
        origin.serve("/file", Bytes(b"abc"))
        status, _, headers = await read(origin.url("/file"), Range="bytes=3-")
    assert (status, headers["Content-Range"]) == (416, "bytes */3")


@pytest.mark.parametrize("how", [Behaviour(reset_after=70_000), Behaviour(close_after=70_000), Behaviour(announced=5)])
async def test_a_cut_body_never_seems_whole(how: Behaviour) -> None:
    async with Origin() as origin:
        origin.serve("/file", BODY, script=[how])
        with pytest.raises(aiohttp.ClientError):
            await read(origin.url("/file"))
        assert (await read(origin.url("/file")))[0] == 200  # the script affects the first request only


async def test_the_content_can_change_in_the_middle_of_an_answer() -> None:
    new = Generated(BODY.size, seed=1)
    async with Origin() as origin:
        origin.serve("/file", BODY, script=[Behaviour(replace=new, replace_at=1000)])
        _, data, headers = await read(origin.url("/file"))
        _, after, _ = await read(origin.url("/file"))
    assert BODY.read(0, 1000) + new.read(1000, BODY.size) == data
    assert headers["ETag"] == f'"{BODY.etag}"'
    assert new.read(0, new.size) == after


async def test_the_rate_can_change_during_an_answer() -> None:
    async with Origin() as origin:
        origin.serve("/file", BODY)
        origin.rate = 10 * KIB
        reading = asyncio.create_task(read(origin.url("/file")))
        await asyncio.sleep(0.3)
        assert 0 < origin.body_bytes("/file") < 20 * KIB
        origin.rate = None
        assert BODY.size == len((await reading)[1])


@pytest.mark.parametrize("framing", ["chunked", "close"])
async def test_a_body_without_an_announced_length_is_whole(framing: str) -> None:
    async with Origin() as origin:
        origin.serve("/file", BODY, always=Behaviour(framing=framing))  # type: ignore[arg-type]
        _, data, headers = await read(origin.url("/file"))
    assert sha256(BODY) == hashlib.sha256(data).hexdigest()
    assert "Content-Length" not in headers
    assert BODY.size == origin.body_bytes("/file")
