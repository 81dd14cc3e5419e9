"""Redirects, URLs, headers and certificates of origins."""

import ssl
from pathlib import Path

import pytest
import trustme

from pantala_protocol.reasons import Reason
from pantala_supernode.outbound.trust import Trust
from pantala_supernode.tasks.copy import FetchOrder, FileSource
from testbed.origin import Behaviour, Origin
from tests.support.cdn import TASK, CDNBench
from tests.support.cdn_origin import BODY, bench, order
from tests.support.outbound import http_reader


async def test_redirects_are_followed_without_secrets(tmp_path: Path) -> None:
    async with Origin() as home, Origin() as away, bench(tmp_path) as b:
        away.serve("/file", BODY)
        home.serve("/file", BODY, always=Behaviour(status=302, headers={"Location": "/second"}))
        home.serve("/second", BODY, always=Behaviour(status=307, headers={"Location": away.url("/file")}))
        b.cdn.trigger(order(home, headers={"X-Secret": "s"}))
        await b.whole()
        assert [access.headers.get("x-secret") for access in home.log] == ["s", "s"]
        assert [access.headers.get("x-secret") for access in away.log] == [None]


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("/file", Reason.SOURCE_UNUSABLE),
        ("http://127.0.0.1:99999/", Reason.SOURCE_UNUSABLE),
        ("http://[::1", Reason.SOURCE_UNUSABLE),
        ("file:///etc/passwd", Reason.SOURCE_DENIED),
        ("http://169.254.169.254/latest", Reason.SOURCE_DENIED),
        ("http://[::ffff:169.254.169.254]/latest", Reason.SOURCE_DENIED),
    ],
)
async def test_forbidden_redirects_are_refused(origin: Origin, b: CDNBench, location: str, reason: Reason) -> None:
    origin.serve("/file", BODY, always=Behaviour(status=301, headers={"Location": location}))
    b.cdn.trigger(order(origin, retry_limit=0))
    assert reason == (await b.failure()).reason


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://host/file", Reason.SOURCE_URL_INVALID),
        ("http://user:password@127.0.0.1/file", Reason.SOURCE_URL_INVALID),
        ("http://[::1", Reason.SOURCE_URL_INVALID),
        ("http://127.0.0.1:99999/", Reason.SOURCE_URL_INVALID),
        ("http://169.254.169.254/latest/meta-data", Reason.SOURCE_DENIED),
        ("http://0.0.0.0:1/", Reason.SOURCE_DENIED),
        ("http://2852039166/", Reason.SOURCE_DENIED),
    ],
)
async def test_invalid_urls_are_never_requested(tmp_path: Path, url: str, reason: Reason) -> None:
    async with bench(tmp_path) as b:
        b.cdn.trigger(FetchOrder(TASK, FileSource(url), retry_limit=0))
        copy = await b.ended()
        assert copy.failure is not None
        assert reason == copy.failure.reason
        assert "password" not in copy.failure.message


async def test_invalid_headers_are_an_error_of_the_secret(origin: Origin, b: CDNBench) -> None:
    b.cdn.trigger(order(origin, headers={"X-Key": "a\r\nb"}))
    assert Reason.SECRET_INVALID == (await b.failure()).reason
    assert origin.log == []


async def test_an_origin_with_an_untrusted_certificate_is_refused(tmp_path: Path) -> None:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    async with Origin(tls=tls) as origin, bench(tmp_path / "untrusted") as b:
        origin.serve("/file", BODY)
        b.cdn.trigger(order(origin))
        assert Reason.SOURCE_TLS == (await b.failure()).reason
        ca = tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(ca)
        async with (
            http_reader(trust=Trust([("*", ca)])) as source,
            source.open(FileSource(origin.url("/file"))) as answer,
        ):
            assert BODY.size == answer.length
