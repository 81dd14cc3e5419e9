"""A peer reads wrapped pieces as Dragonfly's clients do, and accepts nothing else."""

import pytest

from pantala_peer.download.providers import Providers
from pantala_peer.errors import CorruptError, ProviderRefusedError
from pantala_protocol.geometry import Wrapping
from pantala_protocol.sync import PieceWork
from tests.unit.peer.test_providers import answer, fetch, provider
from tests.unit.peer.test_providers import providers as providers
from tests.unit.peer.test_providers import work as plain_work

WRAPPING = Wrapping(1000)
CONTENT = b"0123456789"
pytestmark = pytest.mark.virtual_time


def work(port: int, path: str = "/peer/file/f") -> PieceWork:
    return plain_work(port, piece=2, offset=2000, size=len(CONTENT), sha256="", path=path, wire_size=WRAPPING.wire_size)


async def test_head_and_tail_are_removed_and_the_range_is_the_wrapped_one(providers: Providers) -> None:
    body = WRAPPING.wrap(CONTENT)
    head = b"HTTP/1.1 206 Partial Content\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with provider(answer(head + body)) as uploader:
        assert CONTENT == await fetch(providers, work(uploader.port))
    lines = uploader.heads[0].decode().split("\r\n")
    assert "GET /peer/file/f HTTP/1.1" == lines[0]
    assert {"Range: bytes=2010-2024", "pieceNum: 2", "pieceSize: 1005"} <= set(lines)


async def test_a_piece_without_its_head_and_tail_is_corrupt(providers: Providers) -> None:
    head = b"HTTP/1.1 206 Partial Content\r\nContent-Length: 9\r\n\r\n"
    async with provider(answer(head + CONTENT[:-1])) as uploader:
        with pytest.raises(CorruptError):
            await fetch(providers, work(uploader.port))


@pytest.mark.parametrize("path", ["/a b", "/a\r\nX: y", "/ä"])
async def test_an_invalid_path_is_not_requested(providers: Providers, path: str) -> None:
    async with provider(answer(b"")) as uploader:
        with pytest.raises(ProviderRefusedError):
            await fetch(providers, work(uploader.port, path))
    assert [] == uploader.heads
