"""A client of Dragonfly with the bugs of dfget, written from the description of its protocol.

It probes each provider, checks each piece's MD5 and merges reports. Like v0.3.1 and v0.4.3, an ``old`` client that has
to wait repeats the same request, and sends no queued report meanwhile.
"""

import asyncio
import contextlib
import hashlib
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import aiohttp
from aiohttp import web

from tests.support.web_server import web_server

_RUNS = itertools.count(10_000)


class GaveUpError(Exception):
    """The client ends, or downloads from the source, because of ``code``."""

    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class Item(NamedTuple):
    """The arguments of a request for pieces."""

    status: int
    result: int
    range: str = ""
    provider: str = ""


@dataclass(eq=False)
class Dfget:
    """One run of dfget. Its uploader serves while the context is entered."""

    node: str
    url: str
    pattern: str = "p2p"
    old: bool = False
    md5: str = ""
    headers: tuple[str, ...] = ()
    dfdaemon: bool = False
    reachable: Callable[[dict[str, Any]], bool] = lambda _entry: True
    """Returns False if the client cannot connect to the provider in this entry of the supernode's answer."""
    task_id: str = ""
    piece_size: int = 0
    length: int = -1
    pieces: dict[int, bytes] = field(default_factory=dict)
    """The bytes of each piece, without Dragonfly's head and tail."""
    providers: dict[int, str] = field(default_factory=dict)
    served: int = 0
    codes: list[int] = field(default_factory=list)
    """The codes of all answers to requests for pieces."""
    last: dict[str, Any] = field(default_factory=dict)
    """The data of the final answer, which has code 600."""

    def __post_init__(self) -> None:
        number = next(_RUNS)
        self.cid = f"127.0.0.1-{number}-1600000000.{number % 1000:03}"
        self.path = f"/peer/file/f-{number}-1600000000.000"
        self.port = 0
        self._queue: asyncio.Queue[Item] = asyncio.Queue()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._reports: set[asyncio.Task[object]] = set()
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.http = await self._stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5), auto_decompress=False)
        )
        if self.pattern == "p2p":
            self.port = await self._stack.enter_async_context(web_server(web.get(self.path, self._upload)))
        return self

    async def __aexit__(self, *_: object) -> None:
        work = [*self._running.values(), *self._reports]
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        await self._stack.aclose()

    async def run(self) -> bytes:
        """Download the file. Raises :class:`GaveUpError`."""
        async with asyncio.timeout(60):
            await self.register()
            await self._queue.put(Item(700, 502))
            while True:
                item = await self._queue.get()
                if item.result == 503 and (not self._queue.empty() or len(self._running) > 2):
                    continue  # merged with a later report
                if await self._take(await self._pull(item)):
                    await asyncio.gather(*self._reports)
                    return self._whole()

    def _whole(self) -> bytes:
        """The file. dfget deletes a file whose md5 differs from the expected text, and reports SUCCESS."""
        content = b"".join(self.pieces[number] for number in sorted(self.pieces))
        expected = self.md5 or ("" if self.old else self.last["md5"])
        assert expected in ("", hashlib.md5(content, usedforsecurity=False).hexdigest()), "dfget deletes the file"
        return content

    async def register(self, *, tries: int = 3) -> None:
        """Raises :class:`GaveUpError`."""
        host, _, _ = self.node.partition(":")
        body: dict[str, Any] = {"superNodeIp": host, "rawUrl": self.url, "taskUrl": self.url, "cid": self.cid}
        body |= {"ip": "127.0.0.1", "hostName": "node", "port": self.port, "path": self.path, "version": "1.0.6"}
        body |= {"md5": self.md5, "headers": list(self.headers), "dfdaemon": self.dfdaemon}
        for _ in range(tries):
            answer = await self.post("/peer/registry", body)
            if answer["code"] != 609:
                break
            await asyncio.sleep(0.5)
        if answer["code"] != 200:
            raise GaveUpError(answer["code"])
        data = answer["data"]
        self.task_id, self.piece_size, self.length = data["taskId"], data["pieceSize"], data["fileLength"]

    async def pull(self, item: Item) -> dict[str, Any]:
        """Send one request for pieces. The client does not act on the answer."""
        query = f"srcCid={self.cid}&dstCid={item.provider}&range={item.range}&result={item.result}"
        answer = await self.get(f"/peer/task?{query}&status={item.status}&taskId={self.task_id}")
        self.codes.append(answer["code"])
        return answer

    async def get(self, path: str) -> dict[str, Any]:
        async with self.http.get(f"http://{self.node}{path}") as answer:
            return await _envelope(answer)

    async def post(self, path: str, body: object) -> dict[str, Any]:
        async with self.http.post(f"http://{self.node}{path}", json=body) as answer:
            return await _envelope(answer)

    async def taken(self, text: str, provider: str) -> dict[str, Any]:
        """Report that the client has the piece and can serve it."""
        return await self.get(
            f"/peer/piece/suc?taskId={self.task_id}&cid={self.cid}&dstCid={provider}&pieceRange={text}"
        )

    async def _pull(self, item: Item) -> dict[str, Any]:
        pause = 0.05
        while True:
            answer = await self.pull(item)
            if answer["code"] != 602:
                return answer
            if not self.old and not self._queue.empty():
                item = self._queue.get_nowait()
            await asyncio.sleep(random.uniform(0.6, 2.0) if self.old else pause)
            pause = min(2 * pause, 0.8)

    async def _take(self, answer: dict[str, Any]) -> bool:
        if answer["code"] == 600:
            self.last = answer["data"]
            return True
        if answer["code"] != 601:
            raise GaveUpError(answer["code"])
        for entry in answer["data"]:
            text = entry["range"]
            if entry["pieceSize"] != self.piece_size:
                continue
            if entry["pieceNum"] in self.pieces:
                await self._queue.put(Item(701, 503, text, entry["cid"]))
            elif text not in self._running:
                self._running[text] = asyncio.create_task(self._download(entry))
        return False

    async def _download(self, entry: dict[str, Any]) -> None:
        text, provider = entry["range"], entry["cid"]
        try:
            content = await self.fetch(entry)
        except (OSError, aiohttp.ClientError, ValueError):
            result = 500
        else:
            result = 503
            self.pieces[entry["pieceNum"]], self.providers[entry["pieceNum"]] = content, provider
            if self.pattern == "p2p":
                report = asyncio.create_task(self.taken(text, provider))
                self._reports.add(report)
                report.add_done_callback(self._reports.discard)
        del self._running[text]
        await self._queue.put(Item(701, result, text, provider))

    async def fetch(self, entry: dict[str, Any]) -> bytes:
        """Fetch a piece from its provider and check it. Report an error to the supernode."""
        if not self.reachable(entry):
            raise ConnectionRefusedError("blocked by the test")
        _, probe = await asyncio.open_connection(entry["peerIp"], entry["peerPort"])
        probe.close()
        headers = {"Range": f"bytes={entry['range']}", "pieceNum": str(entry["pieceNum"])}
        headers |= {"pieceSize": str(entry["pieceSize"])}
        url = f"http://{entry['peerIp']}:{entry['peerPort']}{entry['path']}"
        async with self.http.get(url, headers=headers) as answer:
            if answer.status == 404:
                await self._complain("FILE_NOT_EXIST", entry, "")
            if answer.status != 206:
                raise ValueError(f"status {answer.status}")
            wrapped = await answer.read()
        md5 = hashlib.md5(wrapped, usedforsecurity=False).hexdigest()
        if entry["pieceMd5"] and md5 != entry["pieceMd5"].partition(":")[0]:
            await self._complain("FILE_MD5_NOT_MATCH", entry, entry["range"])
            raise ValueError("md5")
        return wrapped[4:-1]

    async def _complain(self, error: str, entry: dict[str, Any], text: str) -> None:
        query = f"errorType={error}&srcCid={self.cid}&dstCid={entry['cid']}&dstIp=&taskId={self.task_id}&range={text}"
        await self.get(f"/peer/piece/error?{query}&realMd5=&expectedMd5=")

    async def _upload(self, request: web.Request) -> web.Response:
        size, number = int(request.headers["pieceSize"]), int(request.headers["pieceNum"])
        content = self.pieces.get(number)
        if content is None:
            return web.Response(status=404)
        self.served += 1
        head = ((len(content) | size << 4) % 2**32).to_bytes(4, "big")
        return web.Response(status=206, body=head + content + b"\x7f", content_type="application/octet-stream")


async def _envelope(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    assert 200 == answer.status, "a client accepts only HTTP 200"
    body: dict[str, Any] = await answer.json(content_type=None)
    return body
