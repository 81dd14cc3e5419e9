"""Reads of an HTTP origin, and the addresses that are denied."""

import asyncio
import contextlib
import email.utils
import gc
import os
import resource
import time
import tracemalloc
from collections.abc import AsyncGenerator
from ipaddress import ip_network
from pathlib import Path

import pytest

from pantala_protocol.statement import SourceRule
from pantala_supernode import errors
from pantala_supernode.errors import SourceDeniedError
from pantala_supernode.origin import refusal
from pantala_supernode.origin.body import BlockPool, Layout
from pantala_supernode.origin.http import HTTPReader
from pantala_supernode.origin.source import Answer, Resume
from pantala_supernode.outbound.egress import EgressPolicy
from pantala_supernode.outbound.names import Lookup
from pantala_supernode.outbound.policies import SourcePolicies
from pantala_supernode.tasks.copy import FileSource
from testbed.origin import Behaviour, Bytes, Generated, Origin
from tests.support.eventually import eventually
from tests.support.outbound import http_reader, local_egress

BODY = Generated(300_000)
ETAG = f'"{BODY.etag}"'
AZURE = "0x8D764B46B9CE392"
"""An ETag without quotes."""
MODIFIED = email.utils.formatdate(BODY.modified, usegmt=True)


async def ask(
    how: Behaviour, resume: Resume | None = None, headers: dict[str, str] | None = None
) -> tuple[Answer, bytes, dict[str, str]]:
    """What one request gets: the answer, the body, and the request's headers as the origin saw them."""
    async with Origin() as origin, http_reader() as source:
        origin.serve("/file", BODY, always=how)
        async with source.open(FileSource(origin.url("/file?x=%2F&y=a+b"), headers or {}), resume) as answer:
            body = b"".join([block async for block in answer.body.blocks(Layout(65536))])
        return answer, body, origin.log[0].headers


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
    ("how", "etag", "modified"),
    [("all", True, True), ("weak", False, False), ("modified", False, True), ("none", False, False)],
)
async def test_only_strong_validators_count(how: str, *, etag: bool, modified: bool) -> None:
    answer, _, _ = await ask(Behaviour(validators=how))  # type: ignore[arg-type]
    assert (etag, modified, etag or modified) == (bool(answer.etag), bool(answer.last_modified), bool(answer.validator))


async def test_an_endless_validator_counts_as_missing() -> None:
    """It is stored, and other replicas would not read a report with it."""
    endless = {"ETag": f'"{"e" * 9000}"', "Last-Modified": f"{MODIFIED} ({'x' * 9000})"}
    answer, _, _ = await ask(Behaviour(validators="none", headers=endless))
    assert ("", "") == (answer.etag, answer.last_modified)


async def test_a_last_modified_of_the_same_second_is_ignored() -> None:
    now = email.utils.formatdate(time.time(), usegmt=True)
    answer, _, _ = await ask(Behaviour(validators="none", headers={"Last-Modified": now}))
    assert answer.last_modified == ""


@pytest.mark.parametrize(
    "content_range",
    [
        "",
        "bytes 0-299999/300000",
        "bytes 1000-299999/1000",
        "bytes 1000-500/300000",
        "bytes */300000",
        "1000-",
        "items 1000-299999/300000",
        "items=1000-299999/300000",
        "bytes1000-299999/300000",
    ],
)
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


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_reset_is_an_interruption(framing: str) -> None:
    with pytest.raises(errors.SourceInterruptedError):
        await ask(Behaviour(reset_after=1000, framing=framing))  # type: ignore[arg-type]


async def test_bytes_after_the_end_are_noticed_on_a_kept_connection() -> None:
    async with Origin() as origin, http_reader() as source:
        origin.serve("/file", BODY, script=[Behaviour()], always=Behaviour(announced=-5, chunk=BODY.size - 5))
        async with source.open(FileSource(origin.url("/file"))) as answer:
            assert BODY.read(0, BODY.size) == b"".join([block async for block in answer.body.blocks(Layout(65536))])
        async with source.open(FileSource(origin.url("/file"))) as answer:
            with pytest.raises(errors.LengthMismatchError):
                _ = [block async for block in answer.body.blocks(Layout(65536))]


async def garbage(text: bytes) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(text)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/file"
    async with server, http_reader() as source, source.open(FileSource(url)) as given:
        [block async for block in given.body.blocks(Layout(65536))]
        return given


@pytest.mark.parametrize(
    "text",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nbody",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000 + b"\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\nbody",
        b"HTTP/1.1\t200 OK\r\nContent-Length: 4\r\n\r\nbody",
    ],
)
async def test_invalid_http_is_a_protocol_error_that_does_not_quote_it(text: bytes) -> None:
    with pytest.raises(errors.SourceProtocolError) as caught:
        await garbage(text)
    assert "SSH" not in str(caught.value)
    assert len(str(caught.value)) < 300


FAR = b"Mon, 01 Jan 2001 00:00:00 -" + b"9" * 30
"""A date that no computer can represent."""


@pytest.mark.parametrize("head", [b"Content-Length: " + b"9" * 5000, b"Date: " + FAR + b"\r\nLast-Modified: " + FAR])
async def test_numbers_without_a_meaning_count_as_absent(head: bytes) -> None:
    answer = await garbage(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\nbody")
    assert (None, "") == (answer.length, answer.last_modified)


@pytest.mark.parametrize("value", ["gzip", "identity, gzip", "GZIP ,identity"])
async def test_each_compression_in_a_list_counts(value: str) -> None:
    with pytest.raises(errors.SourceUnusableError, match="gzip"):
        await ask(Behaviour(headers={"Content-Encoding": value}))


@pytest.mark.parametrize(
    ("label", "path", "pinned", "accepted"),
    [
        ("x-gzip", "/a.tar.gz", False, True),
        ("gzip", "/a.tgz", False, True),
        ("gzip", "/calls.vcf.bgz", False, True),
        ("gzip", "/logo.svgz", False, True),
        ("x-gzip", "/serde-1.0.crate", False, True),
        ("gzip", "/a.TGZ", False, True),
        ("zstd", "/a.tar.zst", False, True),
        ("gzip", "/a.tar", True, True),
        ("br", "/a.bin", True, True),
        ("aws-chunked", "/a.bin", False, True),
        ("none", "/a.bin", False, True),
        ("utf-8", "/a.bin", False, True),
        ("identity", "/a.bin", False, True),
        ("gzip", "/a.bin", False, False),
        ("x-gzip", "/a.tar", False, False),
        ("deflate", "/a.gz", False, False),
        ("br", "/a.gz", False, False),
        ("zstd", "/a.tar.gz", False, False),
        ("gzip", "/a.bin?name=a.gz", False, False),
    ],
)
async def test_a_compression_is_refused_only_where_it_changes_an_unpinned_file(
    label: str, path: str, *, pinned: bool, accepted: bool
) -> None:
    digest = f"sha256:{'0' * 64}" if pinned else None
    async with Origin() as origin, http_reader() as reader:
        origin.serve(path.partition("?")[0], BODY, always=Behaviour(headers={"Content-Encoding": label}))
        try:
            async with reader.open(FileSource(origin.url(path), digest=digest)) as answer:
                body = b"".join([block async for block in answer.body.blocks(Layout(65536))])
        except errors.SourceUnusableError:
            assert not accepted
        else:
            assert accepted
            assert BODY.read(0, BODY.size) == body


@pytest.mark.parametrize(
    ("fields", "accepted"),
    [
        ({"Content-Type": "application/gzip"}, True),
        ({"Content-Type": "application/x-gzip; charset=binary"}, True),
        ({"Content-Type": "application/x-compressed-tar"}, True),
        ({"Content-Disposition": 'attachment; filename="a 1.tar.gz"'}, True),
        ({"Content-Disposition": "attachment; filename=a.tgz; size=4"}, True),
        ({"Content-Type": "application/x-tar"}, False),
        ({"Content-Type": "application/json"}, False),
        ({"Content-Disposition": 'attachment; filename="a.gz.json"'}, False),
    ],
)
async def test_an_answer_can_say_that_its_file_is_stored_with_gzip(fields: dict[str, str], *, accepted: bool) -> None:
    how = Behaviour(headers={"Content-Encoding": "gzip", **fields})
    if accepted:
        assert BODY.read(0, BODY.size) == (await ask(how))[1]
        return
    with pytest.raises(errors.SourceUnusableError):
        await ask(how)


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


async def test_blocks_are_freed_without_the_garbage_collector() -> None:
    size, body = 1 << 20, Generated(4 << 20)

    async def first_block(source: HTTPReader, url: str, *, cancelled: bool) -> None:
        async with (
            source.open(FileSource(url)) as answer,
            contextlib.aclosing(answer.body.blocks(Layout(size))) as blocks,
        ):
            if not cancelled:
                answer.body.stop_at(size)
            assert size == len(await anext(blocks))

    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        async with Origin() as origin, http_reader() as source:
            origin.serve("/file", body)
            for number in range(20):
                await first_block(source, origin.url("/file"), cancelled=number % 2 == 0)
            await asyncio.sleep(0.2)
            assert tracemalloc.get_traced_memory()[0] < 10 * size
    finally:
        tracemalloc.stop()
        gc.enable()


async def test_all_connections_of_a_copy_together_hold_few_blocks() -> None:
    size, count, body, pool = 1 << 20, 8, Generated(8 << 20), BlockPool()
    async with Origin() as origin, http_reader() as source, contextlib.AsyncExitStack() as stack:
        origin.serve("/file", body)
        opened = [source.open(FileSource(origin.url("/file"))) for _ in range(count)]
        bodies = [(await stack.enter_async_context(each)).body for each in opened]
        before, held = -1, 0
        readers = [each.blocks(Layout(size, pool=pool)) for each in bodies]
        first = [asyncio.create_task(anext(reader)) for reader in readers]
        while before < held or held < (count + 4) * size:
            await asyncio.sleep(0.1)
            before, held = held, sum(each.received for each in bodies)
        # Each connection has filled a block, and four more blocks wait for their readers.
        assert held < (count + 5) * size

        async def read(first: asyncio.Task[bytearray], rest: AsyncGenerator[bytearray, None]) -> bytes:
            return await first + b"".join([block async for block in rest])

        assert [body.read(0, body.size)] * count == await asyncio.gather(*map(read, first, readers))


async def test_a_reader_that_ends_leaves_its_room_to_the_other_connections() -> None:
    size, body, pool = 1 << 20, Generated(16 << 20), BlockPool()
    async with Origin() as origin, http_reader() as source:
        origin.serve("/file", body)
        for _ in range(3):
            async with (
                source.open(FileSource(origin.url("/file"))) as answer,
                contextlib.aclosing(answer.body.blocks(Layout(size, pool=pool))) as blocks,
            ):
                assert size == len(await anext(blocks))
                await eventually(lambda: pool.full)
            assert not pool.full
        async with source.open(FileSource(origin.url("/file"))) as answer:
            read = [block async for block in answer.body.blocks(Layout(size, pool=pool))]
    assert body.read(0, body.size) == b"".join(read)


async def test_a_stopped_body_ends_with_its_last_whole_block() -> None:
    async with Origin() as origin, http_reader() as source:
        origin.serve("/file", BODY, always=Behaviour(rate=1_000_000.0))
        async with source.open(FileSource(origin.url("/file"))) as answer:
            answer.body.stop_at(150_000)
            assert BODY.read(0, 131_072) == b"".join([block async for block in answer.body.blocks(Layout(65_536))])
            assert 150_000 <= answer.body.received < 200_000


async def test_a_throttled_request_ends_with_its_reader_and_saves_nothing_afterwards() -> None:
    closed, saved = asyncio.Event(), []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + bytes(200_000))
        with contextlib.suppress(ConnectionError):
            await reader.read()
        closed.set()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/file"
    async with server, http_reader(lambda _source: lambda _size, _go: None) as source:
        async with source.open(FileSource(url)) as given:
            blocks = given.body.blocks(Layout(1 << 20, save=lambda number, start, data: saved.append(start)))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(blocks), 0.3)
        async with asyncio.timeout(2):
            await closed.wait()
    assert [] == saved


async def test_a_connection_closed_without_an_answer_is_an_interruption() -> None:
    with pytest.raises(errors.SourceInterruptedError):
        await garbage(b"")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", 5.0),
        ("999999", 3600.0),
        ("soon", None),
        ("", None),
        ("-5", None),
        ("\u0665", None),
        (FAR.decode(), None),
        ("Mon, 99999999999999999999 Jan 2001 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_read_in_seconds(text: str, expected: float | None) -> None:
    with pytest.raises(errors.SourceAnswerError) as caught:
        refusal.raise_for_status(503, {"Retry-After": text}, "http://x/")  # type: ignore[arg-type]
    assert expected == caught.value.retry_after


def test_retry_after_is_read_as_a_date() -> None:
    with pytest.raises(errors.SourceAnswerError) as caught:
        refusal.raise_for_status(429, {"Retry-After": email.utils.formatdate(time.time() + 100)}, "x")  # type: ignore[arg-type]
    assert caught.value.retry_after is not None
    assert 90 < caught.value.retry_after <= 100
    assert "x answered 429, because it received too many requests. " in str(caught.value)


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


async def test_an_empty_body_is_a_body() -> None:
    async with Origin() as origin, http_reader() as source:
        origin.serve("/file", Bytes(b""))
        async with source.open(FileSource(origin.url("/file"))) as answer:
            assert (0, []) == (answer.length, [block async for block in answer.body.blocks(Layout(65536))])


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
    "192.0.0.192",
    "::ffff:192.0.0.192",
    "fd00:42::42",
    "::ffff:0:169.254.169.254",
    "64:ff9b:1:808:a9:fea9:fe08:808",
]
OTHERS = ["0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0", "224.0.0.1", "239.255.255.250", "255.255.255.255", "ff02::1"]
INTERNAL = [
    "127.0.0.1",
    "127.255.255.254",
    "::1",
    "::ffff:127.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "::127.0.0.1",
    "10.0.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "198.18.0.1",
    "203.0.113.9",
    "240.0.0.1",
    "fd00::1",
    "fec0::1",
    "100::1",
    "2001:db8::1",
    "5f00::1",
    "::ffff:10.0.0.1",
    "64:ff9b::a00:1",
    "2002:a00:1::",
    "2600::5efe:10.0.0.1",
]
PUBLIC = ["8.8.8.8", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]
EVERY_NETWORK = SourceRule("all", networks=("0.0.0.0/0", "::/0"))


@pytest.mark.parametrize("address", METADATA + OTHERS)
def test_some_addresses_are_always_forbidden(address: str) -> None:
    with pytest.raises(SourceDeniedError, match="No SourcePolicy can allow"):
        EgressPolicy().check(address)


@pytest.mark.parametrize("address", METADATA + OTHERS)
def test_m2_no_policy_allows_link_local_addresses(address: str) -> None:
    with pytest.raises(SourceDeniedError, match="No SourcePolicy can allow"):
        EgressPolicy(policies=SourcePolicies([EVERY_NETWORK])).check(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_m2_public_addresses_are_allowed_by_default(address: str) -> None:
    EgressPolicy().check(address)


@pytest.mark.parametrize("address", INTERNAL)
def test_m2_internal_addresses_are_denied_without_a_policy(address: str) -> None:
    with pytest.raises(SourceDeniedError, match="is internal, and no SourcePolicy allows it"):
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


async def test_a_proxy_of_the_environment_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with Origin() as origin, http_reader() as source:
        origin.serve("/file", Generated(10))
        async with source.open(FileSource(origin.url("/file"))) as answer:
            assert answer.length == 10
