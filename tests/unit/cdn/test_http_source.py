"""Reads of an HTTP origin, and the addresses that are denied."""

import asyncio
import contextlib
import email.utils
import os
import resource
import time
from pathlib import Path

import pytest

from pantala_supernode import errors
from pantala_supernode.origin.source import Resume
from pantala_supernode.tasks.copy import FileSource
from testbed.origin import Behaviour, Generated, Origin
from tests.support.http_answers import BODY, ask, garbage
from tests.support.outbound import http_reader

ETAG = f'"{BODY.etag}"'


AZURE = "0x8D764B46B9CE392"


"""An ETag without quotes."""


MODIFIED = email.utils.formatdate(BODY.modified, usegmt=True)


async def test_a_whole_file_is_requested_without_compression_and_conditions() -> None:
    answer, body, headers = await ask(Behaviour(), headers={"X-Token": "t", "Range": "bytes=1-2", "if-range": "x"})
    assert (BODY.size, 0, ETAG, True) == (answer.length, answer.offset, answer.etag, answer.framed)
    assert BODY.read(0, BODY.size) == body
    assert ("identity", "t") == (headers["accept-encoding"], headers["x-token"])
    assert not {"range", "if-range", "cookie"} & set(headers)


async def test_the_rest_is_requested_with_a_condition() -> None:
    answer, body, headers = await ask(Behaviour(), Resume(1000, None, ETAG))
    assert (BODY.size, 1000) == (answer.length, answer.offset)
    assert BODY.read(1000, BODY.size) == body
    assert ("bytes=1000-", ETAG) == (headers["range"], headers["if-range"])


async def test_a_part_is_requested_by_its_range() -> None:
    answer, body, headers = await ask(Behaviour(), Resume(1000, 1500, ETAG))
    assert (BODY.size, BODY.read(1000, 500)) == (answer.length, body)
    assert headers["range"] == "bytes=1000-1499"


@pytest.mark.parametrize(
    ("how", "validator", "asked"),
    [
        (Behaviour(), ETAG, ("if-none-match", ETAG)),
        (Behaviour(validators="modified"), MODIFIED, ("if-modified-since", MODIFIED)),
    ],
)
async def test_a_revalidation_is_one_request(how: Behaviour, validator: str, asked: tuple[str, str]) -> None:
    given = {"If-None-Match": "x", "If-Modified-Since": "y", "If-Match": "z"}  # of a task's own: not its to say
    answer, body, headers = await ask(how, Resume(0, None, validator, complete=True), given)
    assert (True, b"") == (answer.unchanged, body)
    conditions = {"range", "if-range", "if-none-match", "if-modified-since", "if-match"}
    assert {asked[0]: asked[1]} == {name: headers[name] for name in conditions & set(headers)}


@pytest.mark.parametrize("validator", [AZURE, "20260101", '"Mon, 01 Jan 2001 00:00:00 GMT"'])
async def test_a_validator_that_is_not_a_date_is_an_etag(validator: str) -> None:
    _, _, headers = await ask(Behaviour(), Resume(0, None, validator, complete=True))
    assert (validator, None) == (headers["if-none-match"], headers.get("if-modified-since"))


async def test_a_range_confirms_the_date_of_its_request() -> None:
    how = Behaviour(validators="modified", headers={"Last-Modified": ""})
    answer, _, headers = await ask(how, Resume(1000, None, MODIFIED))
    assert (1000, MODIFIED, MODIFIED) == (answer.offset, answer.last_modified, headers["if-range"])
    assert "" == (await ask(how, Resume(1000, None, "")))[0].last_modified
    assert "" == (await ask(how, Resume(1000, None, ETAG)))[0].last_modified
    assert "" == (await ask(how))[0].last_modified


@pytest.mark.parametrize("validator", ['"another"', "Mon, 01 Jan 2001 00:00:00 GMT", ""])
async def test_a_revalidation_answers_with_changed_content(validator: str) -> None:
    answer, body, _ = await ask(Behaviour(), Resume(0, None, validator, complete=True))
    assert (False, ETAG, BODY.read(0, BODY.size)) == (answer.unchanged, answer.etag, body)


async def test_304_without_a_condition_is_refused() -> None:
    with pytest.raises(errors.SourceProtocolError):
        await ask(Behaviour(status=304), Resume(1000, None, ETAG))


async def test_an_answer_has_its_lifetime() -> None:
    answer, _, _ = await ask(Behaviour(headers={"Cache-Control": "max-age=7"}))
    assert answer.lifetime == 7.0
    answer, _, _ = await ask(Behaviour(headers={"Cache-Control": "max-age=8"}), Resume(0, None, ETAG, complete=True))
    assert (8.0, True) == (answer.lifetime, answer.unchanged)


async def test_the_directives_of_all_cache_control_fields_count_together() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nCache-Control: %b\r\nCache-Control: %b\r\n\r\nbody"
    assert 0.0 == (await garbage(head % (b"max-age=7", b"no-cache"))).lifetime
    assert 7.0 == (await garbage(head % (b"public", b"max-age=7"))).lifetime


async def test_a_range_after_the_end_shows_a_shorter_content_than_announced() -> None:
    with pytest.raises(errors.LengthMismatchError):
        await ask(Behaviour(), Resume(BODY.size, None, ETAG))
    with pytest.raises(errors.SourceChangedError):  # nothing says that it is the same
        await ask(Behaviour(), Resume(BODY.size))


@pytest.mark.parametrize(
    ("how", "etag", "modified", "counts"),
    [("all", True, True, True), ("weak", True, False, False), ("modified", False, True, True), ("none", *3 * [False])],
)
async def test_only_strong_validators_count(how: str, *, etag: bool, modified: bool, counts: bool) -> None:
    answer, _, _ = await ask(Behaviour(validators=how))  # type: ignore[arg-type]
    assert (etag, modified, counts) == (bool(answer.etag), bool(answer.last_modified), bool(answer.validator))


async def test_a_date_beside_a_weak_etag_is_not_a_validator() -> None:
    """RFC 9110 (13.1.5) forbids continuing by a date if the origin has sent any ETag."""
    weak = {"ETag": 'W/"v1"', "Last-Modified": MODIFIED}
    answer, _, _ = await ask(Behaviour(validators="none", headers=weak))
    assert ('W/"v1"', MODIFIED, "") == (answer.etag, answer.last_modified, answer.validator)


async def test_an_endless_validator_counts_as_missing() -> None:
    """It is stored, and other replicas would not read a report with it."""
    endless = {"ETag": f'"{"e" * 9000}"', "Last-Modified": f"{MODIFIED} ({'x' * 9000})"}
    answer, _, _ = await ask(Behaviour(validators="none", headers=endless))
    assert ("", "") == (answer.etag, answer.last_modified)


async def test_a_hostile_head_takes_little_time() -> None:
    """A tenant may control both the origin and the Secret, and the event loop reads the head."""
    secret = " ".join(f"abcdefg{number:x}" for number in range(5000))
    text = b'ETag: "%b"\r\nCache-Control: %b' % (b"a" * 98_000, b"a," * 48_000)
    began = time.thread_time()
    answer = await garbage(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n%b\r\n\r\nbody" % text, {"X-Secret": secret})
    assert time.thread_time() - began < 0.2
    assert "" == answer.etag


async def test_a_last_modified_of_the_same_second_is_ignored() -> None:
    now = email.utils.formatdate(time.time(), usegmt=True)
    answer, _, _ = await ask(Behaviour(validators="none", headers={"Last-Modified": now}))
    assert answer.last_modified == ""


@pytest.mark.parametrize(
    "content_range",
    [
        "", "bytes 0-299999/300000", "bytes 1000-299999/1000", "bytes 1000-500/300000", "bytes */300000", "1000-",
        "items 1000-299999/300000", "items=1000-299999/300000", "bytes1000-299999/300000",
    ],
)  # fmt: skip
async def test_a_range_that_was_not_requested_is_refused(content_range: str) -> None:
    with pytest.raises((errors.SourceProtocolError, errors.LengthMismatchError)):
        await ask(Behaviour(headers={"Content-Range": content_range}), Resume(1000, None, ETAG))


@pytest.mark.parametrize(
    "spelling", ["Bytes 1000-1999/300000", "bytes=1000-1999/300000", "bytes: 1000-1999/300000", "1000-1999/300000"]
)
async def test_other_spellings_of_a_requested_range_are_accepted(spelling: str) -> None:
    answer, body, _ = await ask(Behaviour(headers={"Content-Range": spelling}), Resume(1000, 2000, ETAG))
    assert (1000, BODY.size, BODY.read(1000, 1000)) == (answer.offset, answer.length, body)


@pytest.mark.parametrize(
    ("status", "fields", "pinned", "resume", "accepted"),
    [
        (203, {}, True, None, True),
        (201, {}, True, None, True),
        (201, {}, False, None, False),
        (203, {}, False, None, False),
        (203, {}, True, Resume(0, None, ETAG, complete=True), True),
        (203, {}, True, Resume(1000), False),
        (206, {}, True, None, True),
        (206, {}, False, None, False),
        (206, {"Content-Range": "bytes 0-3/*"}, True, None, True),
        (206, {"Content-Range": "bytes 0-3/*"}, False, None, False),
        (206, {"Content-Range": "bytes 1-4/*"}, True, None, False),
        (206, {"Content-Range": "bytes 0-3/5"}, True, None, False),
        (202, {}, True, None, False),
        (226, {}, True, None, False),
    ],
)
async def test_only_a_digest_can_show_that_another_status_has_the_file(
    status: int, fields: dict[str, str], *, pinned: bool, resume: Resume | None, accepted: bool
) -> None:
    async with Origin() as origin, http_reader() as reader:
        origin.serve("/file", BODY, always=Behaviour(status=status, headers=fields))
        wanted = FileSource(origin.url("/file"), digest=f"sha256:{'0' * 64}" if pinned else None)
        if not accepted:
            with pytest.raises(errors.SourceProtocolError):
                async with reader.open(wanted, resume):
                    pass
            return
        async with reader.open(wanted, resume) as answer:
            assert (0, 4) == (answer.offset, answer.length)


async def test_204_is_an_empty_file_but_not_the_rest_of_a_file() -> None:
    answer, body, _ = await ask(Behaviour(status=204))
    assert (0, 0, b"") == (answer.offset, answer.length, body)
    with pytest.raises(errors.SourceProtocolError):
        await ask(Behaviour(status=204), Resume(1000, None, ETAG))


async def test_206_without_a_requested_range_is_accepted_for_the_whole_file_only() -> None:
    whole = Behaviour(status=206, headers={"Content-Range": "bytes 0-3/4", "Content-Length": "4"})
    with pytest.raises(errors.SourceProtocolError):
        await ask(Behaviour(status=206, headers={"Content-Range": "bytes 0-3/5", "Content-Length": "4"}))
    answer, _, _ = await ask(whole)
    assert (0, 4) == (answer.offset, answer.length)


@pytest.mark.parametrize(("name", "accepted"), [("/a-1.0.tar.gz", True), ("/a-1.0.tar", False)])
async def test_the_name_of_a_file_may_come_from_a_redirect(name: str, *, accepted: bool) -> None:
    async with Origin() as origin, http_reader() as reader:
        origin.serve("/latest", BODY, always=Behaviour(status=302, headers={"Location": name}))
        origin.serve(name, BODY, always=Behaviour(headers={"Content-Encoding": "x-gzip"}))
        try:
            async with reader.open(FileSource(origin.url("/latest"))) as answer:
                assert BODY.size == answer.length
        except errors.SourceUnusableError:
            assert not accepted
        else:
            assert accepted


@pytest.mark.parametrize("host", ["[::g]", "[v1.a:b]", "[:::1]"])
async def test_an_invalid_address_in_a_redirect_is_refused(host: str) -> None:
    with pytest.raises(errors.SourceError):
        await ask(Behaviour(status=302, headers={"Location": f"http://{host}/"}))


async def test_many_open_files_do_not_disturb_a_request() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2048), hard))
    with contextlib.ExitStack() as files:
        files.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        while files.enter_context(Path(os.devnull).open()).fileno() < 1100:
            pass
        assert BODY.read(0, BODY.size) == (await ask(Behaviour()))[1]


@pytest.mark.parametrize(
    "headers", [{"Content-Length": "5"}, {"transfer-encoding": "chunked"}, {"X": "a\r\nY: b"}, {"X: a\r\nY": "b"}]
)
async def test_headers_cannot_change_where_a_request_ends(headers: dict[str, str]) -> None:
    with pytest.raises(errors.SourceHeadersError):
        await ask(Behaviour(), headers=headers)


async def test_the_spelling_of_a_signed_url_is_kept() -> None:
    lines: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(await reader.readline())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a%2Fb?sig=a%2Bb%3D+c#part"
    async with server, http_reader() as source, source.open(FileSource(url)):
        pass
    assert [b"GET /a%2Fb?sig=a%2Bb%3D+c HTTP/1.1\r\n"] == lines


async def test_a_proxy_of_the_environment_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with Origin() as origin, http_reader() as source:
        origin.serve("/file", Generated(10))
        async with source.open(FileSource(origin.url("/file"))) as answer:
            assert answer.length == 10
