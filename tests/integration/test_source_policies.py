"""The sources that a supernode reads: public ones, and those that an administrator allows."""

import ssl
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self

import pytest
import trustme

from pantala_process.settings import SettingsError
from pantala_protocol import image, task_id
from pantala_protocol.reasons import Reason
from pantala_protocol.statement import SourceRule, Statement, WantedTask
from pantala_supernode import errors
from pantala_supernode.origin.body import Layout
from pantala_supernode.origin.http import HTTPReader
from pantala_supernode.outbound.client import OutboundClient
from pantala_supernode.outbound.egress import EgressPolicy
from pantala_supernode.outbound.policies import SourcePolicies, rule
from pantala_supernode.outbound.trust import Trust
from pantala_supernode.registry.credentials import Keyring
from pantala_supernode.registry.errors import RegistryDeniedError
from pantala_supernode.registry.platform import Platform
from pantala_supernode.settings import Settings, parse
from pantala_supernode.tasks.copy import FileSource
from testbed.origin import Behaviour, Generated, Origin
from tests.support.fake_registry import FakeRegistry, TokenServer, service
from tests.support.supernode_lab import SupernodeLab

BODY = Generated(100_000)
LOOPBACK = [
    "127.0.0.1", "127.1", "2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "017700000001", "127.0.0.1.", "localhost",
    "[::1]", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
]  # fmt: skip
"""Spellings of loopback."""


class Reading:
    """Reads files under rules. Names have ``addresses``."""

    def __init__(self, *rules: SourceRule, addresses: Sequence[str] = ("127.0.0.1",)) -> None:
        self.addresses = list(addresses)
        self.policies = SourcePolicies()
        self.state(*rules)
        self.client = OutboundClient(
            egress=EgressPolicy(policies=self.policies),
            trust=Trust(policies=self.policies),
            lookup=lambda _host, _port: self.addresses,
        )

    async def __aenter__(self) -> Self:
        await self.client.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.client.__aexit__(*error)

    def state(self, *rules: SourceRule) -> None:
        """Put the rules into force, as a statement does."""
        self.policies.take(Statement(1, sources=rules))

    async def read(self, url: str) -> int:
        """The length of the file that was read."""
        async with HTTPReader(self.client).open(FileSource(url)) as answer:
            return sum([len(block) async for block in answer.body.blocks(Layout(65536))])


async def read(url: str, *rules: SourceRule, **options: Any) -> int:
    """Read a file under rules. Returns its length."""
    async with Reading(*rules, **options) as reading:
        return await reading.read(url)


@pytest.mark.parametrize("host", LOOPBACK)
async def test_m2_loopback_is_denied_in_every_spelling(host: str) -> None:
    async with Origin() as origin:
        with pytest.raises(errors.SourceDeniedError, match="SourcePolicy"):
            await read(f"http://{host}:{origin.port}/file")
        assert [] == origin.log


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a2_a_redirect_to_an_internal_address_is_denied(status: int) -> None:
    async with Origin() as internal, Origin() as outer:
        location = {"Location": f"http://internal.corp:{internal.port}/"}
        outer.serve("/file", BODY, always=Behaviour(status=status, headers=location))
        allowed = SourceRule("outer", hosts=("outer.example",))
        with pytest.raises(errors.SourceDeniedError, match="is not public, and no SourcePolicy allows it"):
            await read(f"http://outer.example:{outer.port}/file", allowed)
        assert (1, []) == (len(outer.log), internal.log)


async def test_a2_a_name_with_one_internal_address_is_denied() -> None:
    async with Origin() as origin:
        with pytest.raises(errors.SourceDeniedError):
            await read(f"http://outer.example:{origin.port}/file", addresses=["127.0.0.1", "8.8.8.8"])
        assert [] == origin.log


async def test_a2_a_token_realm_at_an_internal_address_is_denied() -> None:
    async with FakeRegistry() as registry, TokenServer() as tokens:
        registry.push("1")
        registry.tokens = tokens
        policies = SourcePolicies([rule(registry.host, "--registries")])
        name = image.parse(f"{registry.host}/team/app:1")
        async with service(egress=EgressPolicy(policies=policies)) as opened:
            with pytest.raises(RegistryDeniedError, match=r"the server's address 127.0.0.1 is not public, and no"):
                await opened.client.resolve(name, [Platform("linux", "amd64")], Keyring())
        assert [] == tokens.asked


@pytest.mark.parametrize(
    "allowed",
    [
        SourceRule("p", hosts=("files.corp",)),
        SourceRule("p", hosts=("other", "*.corp")),
        SourceRule("p", hosts=("FILES.corp.",)),
        SourceRule("p", networks=("127.0.0.0/8",)),
        SourceRule("p", networks=("10.0.0.0/8", "127.0.0.1/32")),
        SourceRule("p", hosts=("files.corp",), networks=("127.0.0.0/8",)),
    ],
)
async def test_m2_a_policy_allows_its_hosts_and_networks(allowed: SourceRule) -> None:
    async with Origin() as origin:
        origin.serve("/file", BODY)
        assert BODY.size == await read(f"http://files.corp:{origin.port}/file", allowed)


@pytest.mark.parametrize(
    "other",
    [
        SourceRule("p", hosts=("corp",)),
        SourceRule("p", hosts=("*.files.corp",)),
        SourceRule("p", hosts=("s.corp", "*.orp")),
        SourceRule("p", networks=("127.0.0.2/32", "::/0")),
        SourceRule("p", hosts=("files.corp",), networks=("10.0.0.0/8",)),
        SourceRule("p", hosts=("other.corp",), networks=("127.0.0.0/8",)),
        SourceRule("p", hosts=("files.corp",), ports=(1,)),
        SourceRule("p", networks=("127.0.0.0/8",), ports=(1, 2)),
        SourceRule("p", hosts=("files.corp",), networks=("nonsense",)),
        SourceRule("p"),
        SourceRule("p", ports=(1,)),
    ],
)
async def test_m2_a_policy_allows_nothing_else(other: SourceRule) -> None:
    async with Origin() as origin:
        with pytest.raises(errors.SourceDeniedError):
            await read(f"http://files.corp:{origin.port}/file", other)
        assert [] == origin.log


async def test_m2_a_removed_policy_counts_for_kept_connections_too() -> None:
    async with Origin() as origin, Reading(SourceRule("p", hosts=("files.corp",))) as reading:
        origin.serve("/file", BODY)
        url = f"http://files.corp:{origin.port}/file"
        assert BODY.size == await reading.read(url)
        reading.state()
        with pytest.raises(errors.SourceDeniedError):
            await reading.read(url)
        reading.state(SourceRule("p", hosts=("files.corp",)))
        assert BODY.size == await reading.read(url)
        reading.addresses = ["127.0.0.2"]  # the name moved, but libcurl still has the connection
        reading.state(SourceRule("p", hosts=("files.corp",), networks=("127.0.0.2/32",)))
        with pytest.raises(errors.SourceDeniedError):
            await reading.read(url)


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_m2_a_policy_limits_the_size_of_files(framing: str) -> None:
    async with Origin() as origin:
        origin.serve("/file", BODY, always=Behaviour(framing=framing))  # type: ignore[arg-type]
        url, most = f"http://files.corp:{origin.port}/file", SourceRule("p", hosts=("files.corp",), max_bytes=BODY.size)
        assert BODY.size == await read(url, most)
        less = SourceRule("p", hosts=("files.corp",), max_bytes=BODY.size - 1)
        with pytest.raises(errors.SourceDeniedError, match=r"SourcePolicy allows 99999"):
            await read(url, less)
        assert BODY.size == await read(url, less, most)


async def test_m2_a_policy_brings_the_authorities_of_its_hosts() -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("files.corp", "else.corp").configure_cert(context)
    pem = authority.cert_pem.bytes().decode()
    async with Origin(tls=context) as origin:
        origin.serve("/file", BODY)
        rules = SourceRule("p", hosts=("files.corp",), authorities=pem), SourceRule("q", hosts=("else.corp",))
        assert BODY.size == await read(f"https://files.corp:{origin.port}/file", *rules)
        with pytest.raises(errors.SourceCertificateError):
            await read(f"https://else.corp:{origin.port}/file", *rules)


async def test_m2_a_denied_task_names_the_address_and_continues_with_a_policy(tmp_path: Path) -> None:
    async with SupernodeLab(tmp_path, allow_source=()) as lab:
        lab.serve(BODY.size)
        url = lab.origin.url("/f")
        task = WantedTask("uid", "team/file", task_id.compute(url), url)
        await lab.state(task)
        changes = await lab.until(lambda found: found.tasks and found.tasks[0].failure)
        failure = changes.tasks[0].failure
        assert failure is not None
        assert Reason.SOURCE_DENIED == failure.reason
        assert "The origin's address 127.0.0.1 is not public, and no SourcePolicy allows it." in failure.message
        assert [] == lab.origin.log
        await lab.state(task, sources=(SourceRule("p", networks=("127.0.0.0/8",)),))
        assert BODY.size == (await lab.cached()).length


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.0/8", SourceRule("f", networks=("10.0.0.0/8",))),
        ("10.1.2.3", SourceRule("f", networks=("10.1.2.3/32",))),
        ("fd00::/8", SourceRule("f", networks=("fd00::/8",))),
        ("[fd00::1]:5000", SourceRule("f", networks=("fd00::1/128",), ports=(5000,))),
        ("10.1.2.3:5000", SourceRule("f", networks=("10.1.2.3/32",), ports=(5000,))),
        ("Files.corp", SourceRule("f", hosts=("files.corp",))),
        ("*.corp:8443", SourceRule("f", hosts=("*.corp",), ports=(8443,))),
        ("localhost:5001", SourceRule("f", hosts=("localhost",), ports=(5001,))),
    ],
)
def test_entries_of_the_flag_are_networks_or_hosts(text: str, expected: SourceRule) -> None:
    assert expected == rule(text, "f")


@pytest.mark.parametrize(
    "text", ["10.0.0.1/8", "*", "*.", "a b", "http://x", "2130706433", "0x7f.1", "a:0b", "x/8", "-a"]
)
def test_other_entries_are_rejected(text: str) -> None:
    with pytest.raises(SettingsError, match="--allow-source"):
        parse(["--data", "/d", "--allow-source", text], {})


def test_m2_listed_registries_are_allowed_at_their_own_ports() -> None:
    flag = "http://plain.corp,r.corp:5000,docker.io=https://harbor.corp/v2/hub,quay.io=https://10.1.2.3:8443/v2"
    found: Settings = parse(["--data", "/d", "--registries", flag], {})
    policies = SourcePolicies(found.sources)
    address = ip_address("10.1.2.3")

    def allowed(host: str, port: int) -> bool:
        return any(policies.covering(host, port, address))

    for host, port in (("plain.corp", 80), ("r.corp", 5000), ("harbor.corp", 443), ("10.1.2.3", 8443)):
        assert allowed(host, port)
    for host, port in (("plain.corp", 22), ("r.corp", 443), ("harbor.corp", 8080), ("docker.io", 443), ("10.1.2.3", 1)):
        assert not allowed(host, port)


def test_m2_the_api_server_is_never_a_source() -> None:
    found: Settings = parse(["--data", "/d", "--allow-source", "10.0.0.0/8"], {"KUBERNETES_SERVICE_HOST": "10.96.0.1"})
    policy = EgressPolicy(found.deny_source, policies=SourcePolicies(found.allow_source))
    policy.check("10.96.0.2")
    with pytest.raises(errors.SourceDeniedError):
        policy.check("10.96.0.1")
