"""The scripted origin: its log must be correct."""

import asyncio
import hashlib
from collections.abc import Mapping

import aiohttp

from testbed.origin import Behaviour, Generated, Origin, sha256

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
