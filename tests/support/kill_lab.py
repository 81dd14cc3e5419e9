"""A supernode's process that is killed again and again on one volume, and what its pieces are then."""

import os
import random
from pathlib import Path

from pantala_pieces import journal
from pantala_pieces.digests import PieceHash
from pantala_protocol import ranges, task_id
from pantala_protocol.statement import WantedTask
from pantala_protocol.sync import HeldPieces, PieceWork
from testbed.origin import Access, Generated, Origin
from tests.support.manual_peer import ManualPeer
from tests.support.supernode_lab import SupernodeProcess

MIB = 1024 * 1024
PIECE = 128 * 1024
BODY = Generated(24 * MIB + 5)
CONTENT = BODY.read(0, BODY.size)
TASK = task_id.compute("killed")


class Node(SupernodeProcess):
    """A supernode's process with one task on its volume."""

    def __init__(self, folder: Path, *flags: str) -> None:
        super().__init__(folder, *flags)
        self.task = self.data / "tasks" / TASK[:2] / TASK

    def journalled(self) -> int:
        """The finished pieces on the volume, as a bit mask."""
        try:
            records = journal.decode((self.task / "journal").read_bytes())
        except FileNotFoundError:
            return 0
        return sum(1 << number for number in {record.piece for record in records})

    def right(self) -> int:
        """The finished pieces with the right bytes, as a bit mask. A flipped bit may outlast several kills."""
        found = 0
        for number in ranges.members(self.journalled()):
            with (self.task / "data").open("rb") as data:
                data.seek(number * PIECE)
                own = CONTENT[number * PIECE : (number + 1) * PIECE]
                found |= (own == data.read(len(own))) << number
        return found

    async def read(self, name: str) -> bytes:
        """Download all pieces as a peer does, check each, and return the file."""
        speaker, got = ManualPeer(self, name), dict[int, bytes]()
        done: dict[str, HeldPieces] = {}
        while sum(map(len, got.values())) < BODY.size:
            work = (await speaker.say(done=done)).work
            done = {}
            for piece in work:
                got[piece.piece] = await self._take(piece)
                held = sum(1 << number for number in got)
                done = {TASK: HeldPieces(piece.generation, ranges.render(held))}
        return b"".join(got[number] for number in sorted(got))

    async def _take(self, work: PieceWork) -> bytes:
        headers = {"Range": f"bytes={work.offset}-{work.offset + work.size - 1}", "X-Pantala-Ticket": work.ticket}
        url = f"http://{work.host}:{work.port}/pieces/{work.task_id}/{work.generation}"
        async with self.session.get(url, headers=headers) as answer:
            assert 206 == answer.status, await answer.text()
            data = await answer.read()
        if len(data) == work.size:  # if not, it was killed meanwhile
            assert CONTENT[work.offset : work.offset + work.size] == data, f"piece {work.piece} is wrong"
            assert work.digest == PieceHash(data).hexdigest()
        return data


def wanted(origin: Origin) -> WantedTask:
    return WantedTask(uid="uid", name="ns/name", task_id=TASK, url=origin.url("/f"), peers=("node1",))


def fetched(log: list[Access]) -> int:
    """The pieces with sent bytes, as a bit mask."""
    found = 0
    for access in log:
        first = int(access.range.removeprefix("bytes=").partition("-")[0]) if access.status == 206 else 0
        for number in range(first // PIECE, -(-(first + access.sent) // PIECE)):
            found |= 1 << number
    return found


def harm(node: Node, chance: random.Random) -> None:
    """Damage the volume like a disk may do: tear the journal, or flip a bit."""
    finished = list(ranges.members(node.journalled()))
    if chance.random() < 0.5 and finished:
        path = node.task / "journal"
        content = path.read_bytes()
        torn = chance.choice([content[: -chance.randrange(1, 44)], content + chance.randbytes(chance.randrange(1, 44))])
        path.write_bytes(torn)


def flip(node: Node, chance: random.Random) -> int:
    """Flip a bit of a finished piece, and return the piece as a bit mask."""
    finished = list(ranges.members(node.journalled()))
    if not finished or chance.random() < 0.5:
        return 0
    number = chance.choice(finished)
    with (node.task / "data").open("r+b") as data:
        data.seek(number * PIECE + chance.randrange(5))
        byte = data.read(1)
        data.seek(-1, os.SEEK_CUR)
        data.write(bytes([byte[0] ^ 1 << chance.randrange(8)]))
    return 1 << number
