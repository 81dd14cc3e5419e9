"""Sends a peer's requests to a real supernode, without a peer."""

import msgspec

from pantala_protocol.sync import PieceWork, SyncAnswer, SyncRequest
from tests.support.eventually import eventually
from tests.support.supernode_lab import StatedSupernode


class ManualPeer:
    """Sends exchanges with the fields that a test gives, and adds those that each exchange must repeat."""

    def __init__(self, lab: StatedSupernode, name: str, port: int = 65002) -> None:
        self.lab = lab
        self.name = name
        self.port = port
        self.seq = 0
        self.supernode = ""
        self.revision = 0

    def request(self, **said: object) -> SyncRequest:
        self.seq += 1
        if self.seq == 1:
            said.setdefault("inventory", {})
        head = SyncRequest(
            self.name, "boot", self.seq, supernode=self.supernode, revision=self.revision, port=self.port, blake3=True
        )
        return msgspec.structs.replace(head, **said)

    async def send(self, request: SyncRequest) -> SyncAnswer:
        body = msgspec.json.encode(request)
        async with self.lab.session.post(f"{self.lab.url}/api/v1/sync", data=body) as reply:
            assert 200 == reply.status, await reply.text()
            answer = msgspec.json.decode(await reply.read(), type=SyncAnswer)
        self.supernode, self.revision = answer.supernode, answer.revision
        return answer

    async def say(self, **said: object) -> SyncAnswer:
        return await self.send(self.request(**said))

    async def work(self, **said: object) -> list[PieceWork]:
        """Send requests until the supernode gives work."""

        async def given() -> list[PieceWork]:
            return list((await self.say(**said)).work)

        return await eventually(given, every=0)
