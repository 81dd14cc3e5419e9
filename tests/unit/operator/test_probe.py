"""The operator asks the health ports of peers, and nothing else."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from pantala_operator.adapters.probe import HTTPHealthProbe

FROZEN = 120
"""More than the connections that aiohttp opens at once by default."""


class Peers:
    """All addresses of the loopback network, at one port. Only 127.0.1.1 answers in time."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.server = TestServer(self._application(), host="0.0.0.0")

    def _application(self) -> web.Application:
        async def answer(request: web.Request) -> web.Response:
            self.asked.append(request.path_qs)
            if request.url.host != "127.0.1.1":
                await asyncio.sleep(10)
            return web.Response()

        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        return app


@pytest.fixture
async def peers() -> AsyncIterator[Peers]:
    found = Peers()
    async with found.server:
        yield found


@pytest.mark.virtual_time
async def test_a_peer_that_lives_answers_although_many_others_are_frozen(peers: Peers) -> None:
    probe = HTTPHealthProbe(peers.server.port or 0)
    hosts = [*(f"127.0.2.{number + 1}" for number in range(FROZEN)), "127.0.1.1"]
    answers = await asyncio.gather(*(probe.answers("n", host) for host in hosts))
    assert [False] * FROZEN + [True] == answers
    await probe.close()


@pytest.mark.parametrize("host", ["127.0.1.1:{port}/x?", "user@127.0.1.1", "127.0.1.1#", "localhost", "[::1]/", ""])
async def test_only_an_address_is_asked(peers: Peers, host: str) -> None:
    probe = HTTPHealthProbe(peers.server.port or 0)
    assert not await probe.answers("n", host.format(port=peers.server.port))
    assert [] == peers.asked
    await probe.close()
