"""Which addresses an origin may have."""

from ipaddress import ip_network

import pytest

from pantala_protocol.statement import SourceRule
from pantala_supernode.errors import SourceDeniedError
from pantala_supernode.outbound.egress import EgressPolicy
from pantala_supernode.outbound.names import Lookup
from pantala_supernode.outbound.policies import SourcePolicies
from pantala_supernode.tasks.copy import FileSource
from testbed.origin import Behaviour, Generated, Origin
from tests.support.outbound import http_reader, local_egress

METADATA = [
    "169.254.169.254", "169.254.0.1", "::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "::169.254.169.254",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1:a9fe:a9:fe00::", "2002:a9fe:a9fe::1", "2001:0:a9fe:a9fe::",
    "2001:0:808:808:0:0:5601:5601", "fe80::5efe:a9fe:a9fe", "2001:db8::5efe:169.254.169.254",
    "2001:db8::200:5efe:169.254.169.254", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200",
    "168.63.129.16", "192.0.0.192", "::ffff:192.0.0.192", "fd00:42::42", "::ffff:0:169.254.169.254",
    "64:ff9b:1:808:a9:fea9:fe08:808", "64:ff9b:1:8a9:fe:a9fe:808:808", "64:ff9b:1:808:8:808:a9fe:a9fe",
]  # fmt: skip


OTHERS = ["0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0", "224.0.0.1", "239.255.255.250", "255.255.255.255", "ff02::1"]


INTERNAL = [
    "127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::127.0.0.1",
    "10.0.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "198.18.0.1", "203.0.113.9", "240.0.0.1", "fd00::1",
    "fec0::1", "100::1", "2001:db8::1", "5f00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::",
    "2600::5efe:10.0.0.1",
]  # fmt: skip


PUBLIC = ["8.8.8.8", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]


EVERY_NETWORK = SourceRule("all", networks=("0.0.0.0/0", "::/0"))


@pytest.mark.parametrize("rules", [[], [EVERY_NETWORK]], ids=["no policy", "all networks"])
@pytest.mark.parametrize("address", METADATA + OTHERS)
def test_m2_no_policy_allows_link_local_addresses(address: str, rules: list[SourceRule]) -> None:
    with pytest.raises(SourceDeniedError, match="No SourcePolicy can allow"):
        EgressPolicy(policies=SourcePolicies(rules)).check(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_m2_public_addresses_are_allowed_by_default(address: str) -> None:
    EgressPolicy().check(address)


@pytest.mark.parametrize("address", INTERNAL)
def test_m2_internal_addresses_are_denied_without_a_policy(address: str) -> None:
    with pytest.raises(SourceDeniedError, match="is not public, and no SourcePolicy allows it"):
        EgressPolicy().check(address)
    EgressPolicy(policies=SourcePolicies([EVERY_NETWORK])).check(address)


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "2002:a01:203::"])
def test_denied_networks_are_denied_in_every_form(address: str) -> None:
    with pytest.raises(SourceDeniedError, match=r"10\.0\.0\.0/8"):
        EgressPolicy([ip_network("10.0.0.0/8")]).check(address)


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203"])
def test_the_size_limit_of_a_network_holds_in_every_form(address: str) -> None:
    rules = [SourceRule("p", networks=("10.0.0.0/8",), max_bytes=100), SourceRule("q", networks=("fd00::/8",))]
    assert 100 == EgressPolicy(policies=SourcePolicies(rules)).size_limit(address, "10.1.2.3", 80)


@pytest.mark.parametrize(
    "name",
    [
        "metadata", "metadata.goog", "metadata.google.internal.", "metadata.azure.internal", "instance-data",
        "instance-data.ec2.internal", "metadata.tencentyun.com", "metadata.packet.net", "metadata.platformequinix.com",
    ],
)  # fmt: skip
def test_names_of_metadata_servers_are_always_forbidden(name: str) -> None:
    with pytest.raises(SourceDeniedError, match="metadata server"):
        EgressPolicy(policies=SourcePolicies([EVERY_NETWORK])).check_name(name)


@pytest.mark.parametrize("text", ["", "localhost", "169.254.169.254.", "0x7f.1", "1" * 100])
def test_an_invalid_address_is_forbidden(text: str) -> None:
    with pytest.raises(SourceDeniedError, match="not an IP address"):
        EgressPolicy().check(text)


def names(*answers: list[str]) -> Lookup:
    """Answers each lookup with the next of ``answers``."""
    remaining = iter(answers)
    return lambda host, port: next(remaining)


async def test_one_forbidden_address_forbids_the_name() -> None:
    async with Origin() as origin:
        url = f"http://origin.example:{origin.port}/file"
        async with http_reader(lookup=names(["127.0.0.1", "169.254.169.254"])) as source:
            with pytest.raises(SourceDeniedError):
                async with source.open(FileSource(url)):
                    pass
        assert origin.log == []


async def test_a_rebound_name_is_checked_again_and_the_checked_address_is_used() -> None:
    policy = local_egress(ip_network("127.0.0.2/32"))
    async with Origin() as origin:
        origin.serve("/file", Generated(10), always=Behaviour(headers={"Connection": "close"}))
        url = f"http://origin.example:{origin.port}/file"
        async with http_reader(egress=policy, lookup=names(["127.0.0.1"], ["127.0.0.2"])) as source:
            async with source.open(FileSource(url)) as answer:
                assert answer.length == 10
            with pytest.raises(SourceDeniedError):
                async with source.open(FileSource(url)):
                    pass
        assert len(origin.log) == 1
