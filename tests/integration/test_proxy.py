"""Origins and registries behind a real forward proxy, and the egress rules at every door."""

import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme

from pantala_protocol import image
from pantala_supernode import errors
from pantala_supernode.errors import SourceError
from pantala_supernode.origin.body import Layout
from pantala_supernode.outbound.proxy import Proxy
from pantala_supernode.outbound.request import Timeouts
from pantala_supernode.outbound.trust import Trust
from pantala_supernode.registry.credentials import Keyring
from pantala_supernode.registry.errors import InvalidAnswerError, RegistryDeniedError, RegistryError
from pantala_supernode.registry.platform import Platform
from pantala_supernode.tasks.copy import FileSource
from testbed.origin import Behaviour, Generated, Origin
from testbed.proxy import ForwardProxy
from tests.support.fake_registry import FakeRegistry, service
from tests.support.outbound import http_reader, local_egress
from tests.unit.cdn.test_http_addresses import METADATA, OTHERS

BODY = Generated(300_000)
LOGIN = b"ann:p\xe4ss:w\xc3\xb6rd %41"
SPELLED = [
    *(f"[{each}]" if ":" in each else each for each in METADATA + OTHERS),
    "2852039166",
    "0xa9fea9fe",
    "0XA9FEA9FE",
    "025177524776",
    "0251.0376.0251.0376",
    "0xa9.0xfe.0xa9.0xfe",
    "0251.254.0xa9.254",
    "169.254.43518",
    "169.16689662",
    "169.254.169.254.",
    "425.510.425.510",
    "0169.254.169.254",
    "4294967296",
    "%31%36%39.254.169.254",
    "169%2E254.169.254",
    "\uff11\uff16\uff19.254.169.254",
    "169\u3002254\u3002169\u3002254",
    "\u2460\u2465\u2468.254.169.254",
    "metadata.google.internal",
    "metadata.google.internal.",
    "METADATA",
    "0",
]
REFUSALS = (errors.SourceDeniedError, errors.SourceURLError, errors.SourceUnusableError)


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as served:
        served.serve("/file", BODY)
        yield served


@pytest.fixture
async def proxy() -> AsyncIterator[ForwardProxy]:
    async with ForwardProxy(credentials=LOGIN) as running:
        yield running


@pytest.fixture
def login(tmp_path: Path) -> Path:
    file = tmp_path / "login"
    file.write_bytes(LOGIN + b"\n")
    return file


async def read(url: str, proxy: Proxy | None, headers: dict[str, str] | None = None, **options: Any) -> bytes:
    async with http_reader(proxy=proxy, **options) as source, source.open(FileSource(url, headers or {})) as answer:
        return b"".join([block async for block in answer.body.blocks(Layout(65536))])


async def failure(url: str, proxy: Proxy | None, **options: Any) -> SourceError:
    with pytest.raises(SourceError) as caught:
        await read(url, proxy, **options)
    return caught.value


# What the proxy gets.


async def test_a_name_that_only_the_proxy_knows_is_read_through_it(
    origin: Origin, proxy: ForwardProxy, login: Path
) -> None:
    proxy.hosts["files.corp.invalid"] = ("127.0.0.1", origin.port)
    way = Proxy(proxy.url, credentials=login)
    assert BODY.read(0, BODY.size) == await read("http://files.corp.invalid/file", way)
    assert ["GET http://files.corp.invalid/file"] == proxy.log
    assert "proxy-authorization" not in origin.log[0].headers


async def test_https_takes_a_tunnel_and_hides_its_headers(tmp_path: Path, proxy: ForwardProxy, login: Path) -> None:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("files.corp.invalid").configure_cert(tls)
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    async with Origin(tls=tls) as origin:
        origin.serve("/file", BODY)
        proxy.hosts["files.corp.invalid"] = ("127.0.0.1", origin.port)
        way = Proxy(proxy.url, credentials=login)
        url = "https://files.corp.invalid/file"
        trust = Trust([("files.corp.invalid", ca)])
        assert BODY.read(0, BODY.size) == await read(url, way, {"X-Key": "secret"}, trust=trust)
        assert ["CONNECT files.corp.invalid:443"] == proxy.log
        assert b"secret" not in b"".join(proxy.heads)
        for host in ("other.invalid", "invalid"):
            denied = await failure(url, way, trust=Trust([(host, ca)]))
            assert isinstance(denied, errors.SourceCertificateError)


@pytest.mark.parametrize(
    ("exceptions", "host", "served"),
    [
        (("files.corp",), "files.corp", False),
        (("corp",), "files.corp", False),
        ((".corp",), "files.corp", False),
        (("*.corp",), "files.corp", False),
        ((" FILES.Corp ",), "files.corp", False),
        (("*",), "files.corp", False),
        (("10.0.0.0/8",), "10.1.2.3", False),
        (("fd00::/8",), "fd00::5", False),
        (("[::1]",), "::1", False),
        (("127.0.0.1",), "127.0.0.1", False),
        (("orp",), "files.corp", True),
        (("files.corp",), "corp", True),
        (("10.0.0.0/8",), "11.1.2.3", True),
        (("10.0.0.0/8",), "files.corp", True),
        (("fd00::/8",), "10.1.2.3", True),
        ((), "files.corp", True),
        (("",), "files.corp", True),
        ((".",), "files.corp", True),
    ],
)
def test_exceptions_are_read_as_other_programs_do(exceptions: tuple[str, ...], host: str, *, served: bool) -> None:
    assert served == Proxy("http://proxy:3128", exceptions).serves(host, 443)


@pytest.mark.parametrize(
    ("exception", "host"),
    [
        ("files.corp:8443", "files.corp"),
        ("corp:8443", "files.corp"),
        ("10.1.2.3:8443", "10.1.2.3"),
        ("[::1]:8443", "::1"),
    ],
)
def test_an_exception_may_be_for_one_port(exception: str, host: str) -> None:
    proxy = Proxy("http://proxy:3128", (exception,))
    assert (False, True) == (proxy.serves(host, 8443), proxy.serves(host, 443))


async def test_an_exception_is_read_directly(origin: Origin, proxy: ForwardProxy) -> None:
    assert BODY.read(0, BODY.size) == await read(origin.url("/file"), Proxy(proxy.url, ("127.0.0.0/8",)))
    assert [] == proxy.log


async def test_a_redirect_chooses_its_own_way(origin: Origin, proxy: ForwardProxy, login: Path) -> None:
    proxy.hosts["files.corp.invalid"] = ("127.0.0.1", origin.port)
    origin.serve("/old", BODY, always=Behaviour(status=302, headers={"Location": origin.url("/file")}))
    way = Proxy(proxy.url, ("127.0.0.1",), login)
    assert BODY.read(0, BODY.size) == await read("http://files.corp.invalid/old", way)
    assert ["GET http://files.corp.invalid/old"] == proxy.log


async def test_a_changed_credentials_file_counts_at_once(origin: Origin, proxy: ForwardProxy, login: Path) -> None:
    way = Proxy(proxy.url, credentials=login)
    async with http_reader(proxy=way) as source:
        async with source.open(FileSource(origin.url("/file"))):
            pass
        proxy.credentials = b"ann:next"
        with pytest.raises(errors.SourceProxyError):
            async with source.open(FileSource(origin.url("/file"))):
                pass
        login.write_bytes(b"ann:next")
        async with source.open(FileSource(origin.url("/file"))) as answer:
            assert BODY.size == answer.length


async def test_a_task_cannot_log_in_at_the_proxy(origin: Origin, proxy: ForwardProxy) -> None:
    proxy.credentials = b"a:b"
    with pytest.raises(errors.SourceProxyError):
        await read(origin.url("/file"), Proxy(proxy.url), {"Proxy-Authorization": "Basic YTpi"})
    assert [] == origin.log


# What a failing proxy means.


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("status", "hint"), [(407, "--proxy-credentials"), (502, "does not allow this host"), (504, "cannot reach it")]
)
async def test_a_refusing_proxy_is_named(proxy: ForwardProxy, scheme: str, status: int, hint: str) -> None:
    proxy.credentials, proxy.status = None, status
    error = await failure(f"{scheme}://files.corp.invalid/file", Proxy(proxy.url))
    assert isinstance(error, errors.SourceProxyError)
    assert f"through the proxy (it answered {status}" in str(error)
    assert hint in str(error)
    assert "administrator" in str(error)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://proxy.invalid:3128"])
async def test_an_absent_proxy_is_not_taken_for_the_origin(scheme: str, url: str) -> None:
    assert isinstance(await failure(f"{scheme}://files.corp.invalid/file", Proxy(url)), errors.SourceProxyError)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_silent_proxy_is_given_up_in_time(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        way = Proxy(f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        error = await failure(f"{scheme}://files.corp.invalid/x", way, timeouts=Timeouts(connect=1.0, first_byte=1.0))
    assert isinstance(error, errors.SourceTimeoutError)
    assert time.monotonic() - began < 6


async def test_a_dead_name_server_hardly_delays_a_request_through_the_proxy(
    origin: Origin, proxy: ForwardProxy, login: Path
) -> None:
    proxy.hosts["files.corp.invalid"] = ("127.0.0.1", origin.port)
    answers = threading.Event()

    def dead(host: str, port: int) -> list[str]:
        answers.wait()
        return []

    began = time.monotonic()
    try:
        await read("http://files.corp.invalid/file", Proxy(proxy.url, credentials=login), lookup=dead)
    finally:
        answers.set()
    assert time.monotonic() - began < 5


async def test_a_registry_names_the_refusing_proxy(proxy: ForwardProxy) -> None:
    proxy.credentials, proxy.status = None, 407
    async with service(proxy=Proxy(proxy.url)) as opened:
        with pytest.raises(RegistryError, match=r"\(it answered 407: --proxy-credentials are missing or wrong\)"):
            await opened.client.resolve(image.parse("registry.invalid/a/b:1"), [Platform("linux", "amd64")], Keyring())


# No door leads to a forbidden address.


@pytest.mark.parametrize("host", SPELLED)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_forbidden_address_is_refused_directly_and_through_the_proxy(
    proxy: ForwardProxy, scheme: str, host: str
) -> None:
    proxy.credentials = None
    for way in (None, Proxy(proxy.url)):
        assert isinstance(await failure(f"{scheme}://{host}/latest/meta-data", way), REFUSALS)
    assert [] == proxy.log


@pytest.mark.parametrize("host", SPELLED)
async def test_a_redirect_to_a_forbidden_address_is_refused(origin: Origin, proxy: ForwardProxy, host: str) -> None:
    proxy.credentials = None
    location = f"http://{host}/latest/meta-data".encode().decode("latin-1")
    origin.serve("/old", BODY, always=Behaviour(status=302, headers={"Location": location}))
    for way in (None, Proxy(proxy.url)):
        assert isinstance(await failure(origin.url("/old"), way), REFUSALS)
    assert [f"GET {origin.url('/old')}"] == proxy.log


@pytest.mark.parametrize("host", SPELLED)
async def test_a_token_realm_at_a_forbidden_address_is_refused(proxy: ForwardProxy, host: str) -> None:
    proxy.credentials = None
    async with FakeRegistry() as registry:
        registry.accounts = {"ann": "x"}
        registry.challenge = f'Bearer realm="http://{host}/token"'.encode().decode("latin-1")
        name = image.parse(f"{registry.host}/team/app:1")
        for way in (None, Proxy(proxy.url)):
            async with service(proxy=way) as opened:
                with pytest.raises((RegistryDeniedError, InvalidAnswerError)):
                    await opened.client.resolve(name, [Platform("linux", "amd64")], Keyring())
    assert {registry.host} == {urlsplit(line.split(" ")[1]).netloc for line in proxy.log}


@pytest.mark.parametrize("host", [each for each in SPELLED if each.isascii()])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_at_a_forbidden_address_is_not_connected(scheme: str, host: str) -> None:
    error = await failure(f"{scheme}://127.0.0.1:1/file", Proxy(f"http://{host}:3128"))
    assert isinstance(error, errors.SourceProxyError)


async def test_a_denied_network_counts_through_the_proxy_and_the_proxy_itself_may_be_in_it(
    origin: Origin, proxy: ForwardProxy
) -> None:
    proxy.credentials = None
    proxy.hosts["files.corp.invalid"] = ("127.0.0.1", origin.port)
    egress = local_egress(ip_network("127.0.0.0/8"))
    denied = await failure(origin.url("/file"), Proxy(proxy.url), egress=egress)
    assert isinstance(denied, errors.SourceDeniedError)
    assert BODY.read(0, BODY.size) == await read("http://files.corp.invalid/file", Proxy(proxy.url), egress=egress)
