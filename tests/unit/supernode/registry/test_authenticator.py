"""What the supernode remembers about token servers."""

import json

import pytest
from multidict import CIMultiDict

from pantala_protocol.image import ImageRepository
from pantala_supernode.outbound.request import Request
from pantala_supernode.registry.authenticator import Authenticator
from pantala_supernode.registry.credentials import ANONYMOUS
from pantala_supernode.registry.endpoint import RegistryEndpoint, RepositoryLocation
from pantala_supernode.registry.transport import RegistryReply, RegistryTransport


class Tokens(RegistryTransport):
    """A token server whose tokens have ``size`` characters."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.asked = 0

    async def ask(self, request: Request, what: str, *, most: int) -> RegistryReply:
        self.asked += 1
        body = json.dumps({"token": "t" * self.size, "expires_in": 86400}).encode()
        return RegistryReply(200, CIMultiDict(), body, own=True)


@pytest.mark.parametrize(
    ("size", "padding", "authorized", "asked"),
    [(3000, "", True, 4000), (32768, "", True, 4001), (3000, "x" * 7000, False, 4000)],
    ids=["both kept", "token forgotten", "challenge forgotten"],
)
async def test_h2_tokens_and_challenges_of_a_hostile_registry_take_limited_memory(
    size: int, padding: str, asked: int, *, authorized: bool
) -> None:
    tokens = Tokens(size)
    authenticator = Authenticator(tokens, lambda: 0.0)
    challenge = f'Bearer realm="https://evil.example/token",service="{padding}"'
    places = [
        RepositoryLocation(ImageRepository("evil.example", f"r{number}"), RegistryEndpoint("https://evil.example/v2"))
        for number in range(4000)
    ]
    for place in places:
        assert authenticator.challenged(place, ANONYMOUS, [challenge], "")
        assert await authenticator.authorization(place, ANONYMOUS)
    again = await authenticator.authorization(places[0], ANONYMOUS)
    assert (authorized, asked) == (bool(again), tokens.asked)
