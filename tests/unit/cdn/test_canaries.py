"""No secret of a request appears in an error, in a representation or on the volume, wherever it is in the URL."""

from http import HTTPStatus

import pytest
from multidict import CIMultiDict

from pantala_protocol.redaction import RedactedURL
from pantala_supernode.errors import SourceError
from pantala_supernode.origin import refusal
from pantala_supernode.origin.body import Body
from pantala_supernode.origin.http import _answer
from pantala_supernode.outbound.request import Head, Request
from pantala_supernode.tasks.copy import FileSource

CANARY = "canary-5b1e77"
URLS = [
    f"https://user:{CANARY}@host/x", f"https://{CANARY}@host/x", f"https://host/{CANARY}",
    f"https://host/{CANARY}/file.bin", f"https://host/a/{CANARY}.bin", f"https://host/a;p={CANARY}",
    f"https://host/a?sig={CANARY}", f"https://host/a#{CANARY}", f"https://host//{CANARY}",
    f"https://host:99999/{CANARY}", f"//host/{CANARY}", CANARY,
]  # fmt: skip


@pytest.mark.parametrize("url", URLS)
def test_low_no_part_of_a_url_but_its_host_is_shown(url: str) -> None:
    shown = RedactedURL(url)
    source, request = FileSource(url, {"Authorization": CANARY}), Request(url, {}, CIMultiDict())
    texts = [shown, repr(source), str(source), repr(request)]
    for status in HTTPStatus:
        try:
            refusal.raise_for_status(status, {"Location": url, "Retry-After": CANARY}, shown)
        except SourceError as error:
            texts.append(str(error))
    assert len(texts) > 20
    assert CANARY not in "".join(texts)


def test_low_the_host_is_shown() -> None:
    assert "https://host/…" == RedactedURL(URLS[2])
    assert "http://host:8080" == RedactedURL("http://host:8080")


@pytest.mark.parametrize("value", [f"Bearer {CANARY}", CANARY, f"Basic {CANARY}"])
@pytest.mark.parametrize("echo", ['"%s"', '"for-%s-you"'])
def test_low_an_etag_that_repeats_a_secret_is_not_kept(value: str, echo: str) -> None:
    source = FileSource("https://host/x", {"Authorization": value})
    fields = CIMultiDict({"ETag": echo % CANARY, "Content-Length": "5"})
    body: Body = None  # type: ignore[assignment]
    answer = _answer(Head(200, fields, True), source, RedactedURL(source.url), None, body)
    assert ("", "") == (answer.etag, answer.last_modified)
    fields["ETag"] = '"v1"'
    assert '"v1"' == _answer(Head(200, fields, True), source, RedactedURL(source.url), None, body).etag
