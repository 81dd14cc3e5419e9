"""Simulated clients, which send requests as fast as the supernode answers, and transfer no pieces.

Each is a state machine on one connection, without an asyncio task or an HTTP library. So five hundred clients leave a
core to the supernode. They support only the part of HTTP that the supernode uses.
"""

import itertools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from bench.connection import BenchConnection, get, post
from bench.errors import BenchError
from bench.exchange import PeerMessages
from pantala_protocol import ranges
from pantala_protocol.geometry import Wrapping
from pantala_protocol.sync import HeldPieces, PieceWork, SyncAnswer

_NUMBERS = itertools.count(10_000)


_CLAIMED = 8
"""The number of pieces that a new client reports at once, so that all clients can get work from the start."""


@dataclass(frozen=True)
class File:
    """The file that all clients download."""

    url: str
    task_id: str
    pieces: int
    piece_size: int


@dataclass
class Tally:
    """The counted results of all clients of one kind."""

    begun: int = 0
    """The number of clients that have connected, reported their first pieces and received work."""
    cycles: int = 0
    """The number of reports on a piece that were answered with more work, or with the end of the task."""
    waits: int = 0
    """The number of delayed answers: the supernode had no work for a client that had none."""
    latencies: list[float] = field(default_factory=list)
    """The seconds of each request of a client that still had work. The supernode never delays these answers."""


class _Entry(msgspec.Struct):
    range: str
    cid: str


class Envelope(msgspec.Struct):
    """An answer of Dragonfly's API."""

    code: int
    data: msgspec.Raw = msgspec.Raw(b"")


_envelope = msgspec.json.Decoder(Envelope).decode
_entries = msgspec.json.Decoder(list[_Entry]).decode


def registration(url: str) -> tuple[str, bytes]:
    """The ID of a new client of Dragonfly, and the request with which it registers for a file."""
    number = next(_NUMBERS)
    cid = f"127.0.0.1-{number}-1600000000.{number % 1000:03}"
    body = {
        "superNodeIp": "127.0.0.1", "rawUrl": url, "taskUrl": url, "cid": cid, "ip": "127.0.0.1",
        "hostName": "node", "port": 15000 + number % 50_000, "version": "1.0.6",
        "path": f"/peer/file/f-{number}-1600000000.000",
    }  # fmt: skip
    return cid, post("/peer/registry", msgspec.json.encode(body))


class Dfget:
    """Simulates clients of Dragonfly on one connection. After a client has all pieces, a new client begins."""

    def __init__(self, connection: BenchConnection, file: File, tally: Tally) -> None:
        self._connection = connection
        self._file = file
        self._tally = tally
        self._cid = ""
        self._running: dict[str, str] = {}
        self._fresh = True
        self._asked_at = 0.0

    def register(self, then: Callable[[], None]) -> None:
        """Register as a new client, then call ``then``."""
        self._cid, request = registration(self._file.url)
        self._running = {}

        def registered(answer: bytes) -> None:
            if _envelope(answer).code != 200:
                raise BenchError(f"The supernode answered a registration with {answer!r}")
            then()

        self._connection.ask(request, registered)

    def leave(self, then: Callable[[], None]) -> None:
        """Report that the client's uploader ends, then call ``then``."""
        path = f"/peer/service/down?taskId={self._file.task_id}&cid={self._cid}"
        self._connection.ask(get(path), lambda _answer: then())

    def start(self) -> None:
        """Download until the connection is closed."""
        self.register(lambda: self._claim(_some(self._file.pieces)))

    def _claim(self, pieces: list[int]) -> None:
        if not pieces:
            self._begin()
            return
        piece = Wrapping(self._file.piece_size).range(pieces.pop())
        path = f"/peer/piece/suc?taskId={self._file.task_id}&cid={self._cid}&dstCid=&pieceRange={piece}"
        self._connection.ask(get(path), lambda _answer: self._claim(pieces))

    def _begin(self) -> None:
        self._pull("700&result=502&range=&dstCid=")

    def _pull(self, status: str) -> None:
        self._asked_at = time.perf_counter()
        path = f"/peer/task?srcCid={self._cid}&taskId={self._file.task_id}&status={status}"
        self._connection.ask(get(path), self._pulled)

    def _pulled(self, answer: bytes) -> None:
        envelope, tally = _envelope(answer), self._tally
        if envelope.code == 600:
            tally.cycles += 1
            self.leave(self.start)
            return
        if envelope.code == 602:
            tally.waits += 1
            self._begin()
            return
        if envelope.code != 601:
            raise BenchError(f"The supernode answered a pull with {answer!r}")
        tally.cycles += 1
        if self._running:
            tally.latencies.append(time.perf_counter() - self._asked_at)
        else:
            tally.waits += 1
        tally.begun += self._fresh
        self._fresh = False
        self._running.update((entry.range, entry.cid) for entry in _entries(envelope.data))
        piece = next(iter(self._running))
        provider = self._running.pop(piece)
        path = f"/peer/piece/suc?taskId={self._file.task_id}&cid={self._cid}&dstCid={provider}&pieceRange={piece}"
        self._connection.ask(get(path), lambda _answer: self._pull(f"701&result=503&range={piece}&dstCid={provider}"))


class Native:
    """Simulates a peer.

    Each exchange reports one piece and gets work for another piece. With all pieces, it starts again.
    """

    def __init__(self, connection: BenchConnection, file: File, name: str, tally: Tally) -> None:
        self._connection = connection
        self._file = file
        self._name = name
        self._tally = tally
        self._messages: PeerMessages
        self._running: list[PieceWork] = []
        self._left = 0
        self._asked_at = 0.0

    def start(self) -> None:
        """Download until the connection is closed."""
        self._messages = PeerMessages(self._name, f"{self._name}-{next(_NUMBERS)}")
        self._running, self._left = [], self._file.pieces
        self._ask({}, self._began)

    def _began(self, answer: bytes) -> None:
        first = self._take(answer)
        self._tally.begun += 1
        given = {work.piece for work in self._running}
        claimed = [piece for piece in _some(self._file.pieces) if piece not in given]
        if self._running:  # with a full window, the supernode would hold the answer to a claim alone
            claimed.append(self._running.pop().piece)
        self._left -= len(claimed)
        generation = next(assignment.generation for assignment in first.assignments or ())
        pieces = ranges.render(sum(1 << piece for piece in claimed))
        self._ask({self._file.task_id: HeldPieces(generation, pieces)}, self._answered)

    def _answered(self, answer: bytes) -> None:
        self._tally.cycles += 1
        if self._running:
            self._tally.latencies.append(time.perf_counter() - self._asked_at)
        else:
            self._tally.waits += 1
        self._take(answer)
        if not self._left:
            self.start()
        elif not self._running:
            self._ask({}, self._answered)
        else:
            self._report(1 if self._left > len(self._running) else self._left)

    def _report(self, count: int) -> None:
        """Report the oldest pieces.

        The last pieces are reported together. No work follows, so the supernode may hold the answer.
        """
        done, self._running = self._running[:count], self._running[count:]
        self._left -= count
        pieces = ranges.render(sum(1 << work.piece for work in done))
        self._ask({self._file.task_id: HeldPieces(done[0].generation, pieces)}, self._answered)

    def _ask(self, done: dict[str, HeldPieces], then: Callable[[bytes], None]) -> None:
        self._asked_at = time.perf_counter()
        self._connection.ask(self._messages.request(done=done), then)

    def _take(self, answer: bytes) -> SyncAnswer:
        decoded = self._messages.take(answer)
        self._running += decoded.work
        return decoded


def _some(pieces: int) -> list[int]:
    return random.sample(range(pieces), _CLAIMED)
