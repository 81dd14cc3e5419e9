"""Names and spellings cannot reach a forbidden address (A2)."""

import socket
from ipaddress import ip_network

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from pantala_supernode.errors import SourceDeniedError
from pantala_supernode.origin.egress import CheckedResolver, EgressPolicy
from pantala_supernode.origin.http import HTTPReader
from pantala_supernode.tasks.copy import FileSource
from testbed.origin import Behaviour, Generated, Origin

METADATA = [
    "169.254.169.254",
    "169.254.0.1",
    "::ffff:169.254.169.254",
    "::ffff:a9fe:a9fe",
    "::169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1:a9fe:a9:fe00::",
    "2002:a9fe:a9fe::1",
    "2001:0:a9fe:a9fe::",
    "2001:0:808:808:0:0:5601:5601",
    "fe80::5efe:a9fe:a9fe",
    "2001:db8::5efe:169.254.169.254",
    "2001:db8::200:5efe:169.254.169.254",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "fd20:ce::254",
    "100.100.100.200",
    "168.63.129.16",
]
OTHERS = ["0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0", "224.0.0.1", "239.255.255.250", "255.255.255.255", "ff02::1"]
ALLOWED = ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "fd00::1", "8.8.8.8", "2606:4700::1111", "::ffff:10.0.0.1"]


@pytest.mark.parametrize("address", METADATA + OTHERS)
def test_some_addresses_are_always_forbidden(address: str) -> None:
    with pytest.raises(SourceDeniedError, match="forbidden network"):
        EgressPolicy().check(address)


@pytest.mark.parametrize("address", ALLOWED)
def test_other_addresses_are_allowed_by_default(address: str) -> None:
    EgressPolicy().check(address)


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "2002:a01:203::"])
def test_denied_networks_are_denied_in_every_form(address: str) -> None:
    with pytest.raises(SourceDeniedError, match=r"10\.0\.0\.0/8"):
        EgressPolicy([ip_network("10.0.0.0/8")]).check(address)


@pytest.mark.parametrize("text", ["", "localhost", "169.254.169.254.", "0x7f.1", "1" * 100])
def test_an_invalid_address_is_forbidden(text: str) -> None:
    with pytest.raises(SourceDeniedError, match="not an IP address"):
        EgressPolicy().check(text)


class Names(AbstractResolver):
    """Answers each question with the next of ``answers``."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
            for address in self._answers.pop(0)
        ]

    async def close(self) -> None:
        """Nothing to close."""


async def test_one_forbidden_address_forbids_the_name() -> None:
    resolver = CheckedResolver(Names(["8.8.8.8", "169.254.169.254"]), EgressPolicy())
    with pytest.raises(SourceDeniedError):
        await resolver.resolve("origin.example", 80)


async def test_a_rebound_name_is_checked_again_and_the_checked_address_is_used() -> None:
    policy = EgressPolicy([ip_network("127.0.0.2/32")])
    async with Origin() as origin:
        origin.serve("/file", Generated(10), always=Behaviour(headers={"Connection": "close"}))
        url = f"http://origin.example:{origin.port}/file"
        async with HTTPReader(egress=policy, resolver=Names(["127.0.0.1"], ["127.0.0.2"])) as source:
            async with source.open(FileSource(url)) as answer:
                assert answer.length == 10
            with pytest.raises(SourceDeniedError):
                async with source.open(FileSource(url)):
                    pass
        assert len(origin.log) == 1


async def test_a_proxy_of_the_environment_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with Origin() as origin, HTTPReader() as source:
        origin.serve("/file", Generated(10))
        async with source.open(FileSource(origin.url("/file"))) as answer:
            assert answer.length == 10
