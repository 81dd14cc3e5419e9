"""Readers of a small file: directly, by Dragonfly's protocol, and as a simulated peer."""

import itertools
from abc import ABC, abstractmethod
from urllib.parse import urlsplit

import msgspec

from bench.connection import get
from bench.control.clients import Envelope, registration
from bench.errors import BenchError
from bench.exchange import PeerMessages
from bench.small.wire import Wires
from pantala_protocol import ranges, task_id, ticket
from pantala_protocol.geometry import HEAD, TAIL
from pantala_protocol.sync import HeldPieces, PieceWork

_BOOTS = itertools.count()
_FINISHED, _MORE, _WAIT = 600, 601, 602


class Reader(ABC):
    """Reads one file again and again."""

    def __init__(self, url: str, size: int, wires: Wires) -> None:
        self.url = url
        self.size = size
        self.wires = wires

    @abstractmethod
    def read(self) -> bytes:
        """The whole file. The time of this call is measured."""

    def finish(self) -> None:  # noqa: B027 - most readers need nothing
        """Clean up after a read. The time of this call is not measured."""


class DirectReader(Reader):
    """A GET at the origin, like ``curl``."""

    def read(self) -> bytes:
        parts = urlsplit(self.url)
        return self.wires.ask(parts.hostname or "", parts.port or 80, get(parts.path))


class _Entry(msgspec.Struct):
    range: str
    cid: str
    pieceNum: int  # noqa: N815
    peerIp: str  # noqa: N815
    peerPort: int  # noqa: N815
    path: str


class DragonflyReader(Reader):
    """A new client of Dragonfly for each read: it registers, asks for work and fetches the pieces."""

    def __init__(self, url: str, size: int, wires: Wires, supernode: tuple[str, int]) -> None:
        super().__init__(url, size, wires)
        self._supernode = supernode
        self._task_id = task_id.compute(url)
        self._cid = ""

    def read(self) -> bytes:
        self._cid, request = registration(self.url)
        self._expect(self._ask(request), 200)
        pieces: dict[int, bytes] = {}
        received = 0
        status = "700&result=502&range=&dstCid="
        while received < self.size:
            entries = [entry for entry in self._pull(status) if entry.pieceNum not in pieces]
            answers = self.wires.ask_all([_request(entry) for entry in entries])
            for entry, wrapped in zip(entries, answers, strict=True):
                pieces[entry.pieceNum] = wrapped[HEAD : -len(TAIL)]
                received += len(pieces[entry.pieceNum])
                status = f"701&result=503&range={entry.range}&dstCid={entry.cid}"
        return b"".join(pieces[number] for number in sorted(pieces))

    def finish(self) -> None:
        """Leave, so that the supernode does not name this client as a provider."""
        self._ask(get(f"/peer/service/down?taskId={self._task_id}&cid={self._cid}"))

    def _pull(self, status: str) -> list[_Entry]:
        answer = self._ask(get(f"/peer/task?srcCid={self._cid}&taskId={self._task_id}&status={status}"))
        if answer.code == _WAIT:
            return []
        self._expect(answer, _MORE)
        return msgspec.json.decode(answer.data, type=list[_Entry])

    def _ask(self, request: bytes) -> Envelope:
        return msgspec.json.decode(self.wires.ask(*self._supernode, request), type=Envelope)

    def _expect(self, answer: Envelope, code: int) -> None:
        if answer.code != code:
            raise BenchError(f"The supernode answered {answer.code} instead of {code}: {bytes(answer.data)!r}")


class NativeReader(Reader):
    """A simulated peer that has just started at each read: one exchange for the work, and the pieces."""

    def __init__(self, url: str, size: int, wires: Wires, supernode: tuple[str, int], name: str) -> None:
        super().__init__(url, size, wires)
        self._supernode = supernode
        self._name = name

    def read(self) -> bytes:
        messages = PeerMessages(self._name, f"boot-{next(_BOOTS)}")
        pieces: dict[int, bytes] = {}
        received = 0
        done: dict[str, HeldPieces] = {}
        while received < self.size:
            answer = messages.take(self.wires.ask(*self._supernode, messages.request(done=done)))
            works = [work for work in answer.work if work.piece not in pieces]
            answers = self.wires.ask_all([_ticketed(work) for work in works if work.content is None])
            fetched = {work.piece: work.content for work in works if work.content is not None}
            fetched |= zip((work.piece for work in works if work.content is None), answers, strict=True)
            if works:
                taken = ranges.render(sum(1 << piece for piece in fetched))
                done = {works[0].task_id: HeldPieces(works[0].generation, taken)}
            pieces |= fetched
            received += sum(len(piece) for piece in fetched.values())
        return b"".join(pieces[number] for number in sorted(pieces))


def _request(entry: _Entry) -> tuple[str, int, bytes]:
    request = f"GET {entry.path} HTTP/1.1\r\nHost: supernode\r\nRange: bytes={entry.range}\r\n\r\n"
    return entry.peerIp, entry.peerPort, request.encode()


def _ticketed(work: PieceWork) -> tuple[str, int, bytes]:
    last = work.offset + work.size - 1
    request = (
        f"GET /pieces/{work.task_id}/{work.generation} HTTP/1.1\r\nHost: supernode\r\n"
        f"Range: bytes={work.offset}-{last}\r\n{ticket.HEADER}: {work.ticket}\r\n\r\n"
    )
    return work.host, work.port, request.encode()
