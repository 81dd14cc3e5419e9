"""The CDN with real sockets and a real disk, and good and bad origins."""

import asyncio
import contextlib
import errno
import hashlib
import os
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from pantala_pieces.store import PieceStore
from pantala_protocol.ranges import members
from pantala_protocol.reasons import Reason
from pantala_protocol.statement import CDNStatus
from pantala_supernode.cdn.segments import Division
from pantala_supernode.outbound.request import Timeouts
from pantala_supernode.outbound.trust import Trust
from pantala_supernode.tasks.copy import Copy, FetchOrder, FileSource
from testbed.origin import Behaviour, Generated, Origin, sha256
from tests.support.cdn import TASK, CDNBench
from tests.support.outbound import http_reader
from tests.support.small_disk import disk_free, resize, small_disk

MIB = 1024 * 1024
PIECE = 128 * 1024
BODY = Generated(3 * MIB + 17)
OTHER = Generated(3 * MIB + 17, seed=1, modified=1_600_000_000)


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as origin:
        yield origin


@contextlib.asynccontextmanager
async def bench(
    directory: Path, *, timeouts: Timeouts | None = None, headroom: float = 0.0, **settings: Any
) -> AsyncIterator[CDNBench]:
    async with (
        http_reader(timeouts=timeouts) as reader,
        CDNBench(directory, reader, durable=True, headroom=headroom, **settings) as made,
    ):
        yield made


@pytest.fixture
async def b(tmp_path: Path) -> AsyncIterator[CDNBench]:
    async with bench(tmp_path) as b:
        yield b


def order(origin: Origin, path: str = "/file", *, retry_limit: int | None = 6, **source: Any) -> FetchOrder:
    return FetchOrder(TASK, FileSource(origin.url(path), **source), retry_limit=retry_limit)


async def test_a_file_is_read_once_and_cached_whole(origin: Origin, b: CDNBench) -> None:
    origin.serve("/file", BODY)
    b.cdn.trigger(order(origin))
    b.cdn.trigger(order(origin))
    copy = await b.ended()
    assert copy.status is CDNStatus.SUCCESS
    assert f"sha256:{sha256(BODY)}" == copy.digest
    assert (BODY.size, BODY.size) == (copy.length, copy.origin_bytes)
    assert copy.total is not None
    assert (1 << copy.total) - 1 == copy.cached
    assert BODY.read(0, BODY.size) == b.data()
    assert [("GET", 200, BODY.size)] == [(a.method, a.status, a.sent) for a in origin.log]


PASSING = {
    "reset in mid-body": [Behaviour(reset_after=MIB + 5)],
    "closed in mid-body": [Behaviour(close_after=MIB + 5)],
    "cut several times": [Behaviour(reset_after=MIB), Behaviour(close_after=MIB // 2), Behaviour(reset_after=0)],
    "server errors first": [Behaviour(status=500), Behaviour(status=503, headers={"Retry-After": "1"})],
    "too many requests first": [Behaviour(status=429, headers={"Retry-After": "7"})],
    "resume without range support": [Behaviour(close_after=MIB), Behaviour(ranges=False)],
    "no validators": [Behaviour(close_after=MIB, validators="none"), Behaviour(validators="none")],
    "weak etag alone": [Behaviour(close_after=MIB, validators="weak"), Behaviour(validators="weak")],
    "last-modified alone": [Behaviour(close_after=MIB, validators="modified"), Behaviour(validators="modified")],
    "wrong content-range once": [
        Behaviour(close_after=MIB),
        Behaviour(headers={"Content-Range": f"bytes 0-{BODY.size - 1}/{BODY.size}"}),
    ],
    "one body longer than announced": [Behaviour(announced=-100_000)],
    "one body shorter than announced": [Behaviour(announced=10)],
    "chunked": [Behaviour(framing="chunked")],
    "chunked and cut": [Behaviour(framing="chunked", close_after=2 * MIB)],
    "stalls": [Behaviour(stall_after=MIB)],
    "forbidden in mid-body": [Behaviour(close_after=MIB), Behaviour(status=403), Behaviour(close_after=MIB)] * 2,
    "unauthorized in mid-body": [Behaviour(close_after=MIB), Behaviour(status=401)],
}


@pytest.mark.parametrize("digest", ["", "sha256", "sha512"], ids=["unknown", "sha256", "sha512"])
@pytest.mark.parametrize("script", PASSING.values(), ids=PASSING.keys())
async def test_temporary_faults_pass(tmp_path: Path, origin: Origin, script: list[Behaviour], digest: str) -> None:
    content = BODY.read(0, BODY.size)
    expected = f"{digest}:{hashlib.new(digest, content).hexdigest()}" if digest else ""
    async with bench(tmp_path, timeouts=Timeouts(first_byte=0.3, stall=0.3)) as b:
        origin.serve("/file", BODY, script=script)
        b.cdn.trigger(order(origin, digest=expected))
        copy = await b.ended()
        assert (copy.status, copy.failure) == (CDNStatus.SUCCESS, None)
        assert content == b.data()


async def test_an_origin_may_send_less_than_each_requested_range(origin: Origin, b: CDNBench) -> None:
    origin.serve("/file", BODY, script=[Behaviour(close_after=MIB)], always=Behaviour(most=PIECE + 10_000))
    b.cdn.trigger(order(origin, retry_limit=1))
    await b.whole(BODY.read(0, BODY.size))
    assert len(origin.log) > 10
    assert 1 == len(b.delays), "only the cut body was a failure"
    assert BODY.size <= origin.body_bytes("/file") <= BODY.size + len(origin.log) * 2


async def test_an_origin_that_sends_hardly_anything_uses_up_the_retries(origin: Origin, b: CDNBench) -> None:
    origin.serve("/file", BODY, script=[Behaviour(close_after=MIB)], always=Behaviour(most=1000))
    b.cdn.trigger(order(origin, retry_limit=3))
    assert Reason.SOURCE_INTERRUPTED == (await b.failure()).reason


@pytest.mark.parametrize(("status", "reason"), [(403, Reason.SOURCE_FORBIDDEN), (401, Reason.SOURCE_UNAUTHORIZED)])
async def test_a_second_refusal_without_new_bytes_is_final(
    tmp_path: Path, origin: Origin, status: int, reason: Reason
) -> None:
    async with bench(tmp_path) as b:
        origin.serve("/file", BODY, script=[Behaviour(close_after=MIB)], always=Behaviour(status=status))
        b.cdn.trigger(order(origin))
        copy = await b.ended()
        assert copy.failure is not None
        assert (CDNStatus.FAILED, reason) == (copy.status, copy.failure.reason)
        assert [200, status, status] == [access.status for access in origin.log]


FINAL = {
    "not found": (Behaviour(status=404), Reason.SOURCE_NOT_FOUND),
    "gone": (Behaviour(status=410), Reason.SOURCE_NOT_FOUND),
    "unauthorized": (Behaviour(require={"Authorization": "x"}), Reason.SOURCE_UNAUTHORIZED),
    "forbidden": (Behaviour(status=403), Reason.SOURCE_FORBIDDEN),
    "proxy authentication": (Behaviour(status=407), Reason.SOURCE_UNAUTHORIZED),
    "other client error": (Behaviour(status=451), Reason.SOURCE_ERROR),
    "server error": (Behaviour(status=500), Reason.SOURCE_ERROR),
    "not modified": (Behaviour(status=304), Reason.SOURCE_PROTOCOL),
    "always shorter": (Behaviour(announced=10), Reason.LENGTH_MISMATCH),
    "always longer": (Behaviour(announced=-100_000), Reason.LENGTH_MISMATCH),
    "always cut at one byte": (Behaviour(close_after=MIB, ranges=False), Reason.LENGTH_MISMATCH),
    "always gzip": (Behaviour(gzip=True), Reason.SOURCE_UNUSABLE),
    "unknown end, unknown digest": (Behaviour(framing="close"), Reason.SOURCE_UNUSABLE),
    "silent": (Behaviour(stall_after=0), Reason.SOURCE_TIMEOUT),
}


@pytest.mark.parametrize(("always", "reason"), FINAL.values(), ids=FINAL.keys())
async def test_final_faults_name_an_action(tmp_path: Path, origin: Origin, always: Behaviour, reason: Reason) -> None:
    async with bench(tmp_path, timeouts=Timeouts(first_byte=0.1, stall=0.1)) as b:
        origin.serve("/file", BODY, always=always)
        b.cdn.trigger(order(origin, "/file?secret=1"))
        copy = await b.ended()
        assert copy.failure is not None
        assert (CDNStatus.FAILED, reason) == (copy.status, copy.failure.reason)
        assert origin.url("/…") in copy.failure.message
        assert "secret" not in copy.failure.message
        assert copy.failure.message.endswith(".")
        assert origin.body_bytes("/file") <= 8 * BODY.size
        assert copy.digest == ""


@pytest.mark.parametrize("refused", [Behaviour(gzip=True), Behaviour(framing="close")], ids=["gzip", "no end"])
async def test_an_unusable_answer_is_requested_once(origin: Origin, b: CDNBench, refused: Behaviour) -> None:
    origin.serve("/file", Generated(64 * MIB), always=refused)
    b.cdn.trigger(order(origin, retry_limit=None))
    copy = await b.ended()
    assert copy.failure is not None
    assert (Reason.SOURCE_UNUSABLE, True) == (copy.failure.reason, copy.failure.final)
    await asyncio.sleep(0.05)
    assert (1, 0) == (len(origin.log), copy.origin_bytes)
    assert [300.0] == b.delays


async def test_a_body_that_ends_at_a_piece_boundary_can_be_too_short(origin: Origin, b: CDNBench) -> None:
    """What is asked for then is behind the true end: 416, and yet nothing changed."""
    origin.serve("/file", Generated(8 * PIECE), always=Behaviour(announced=10))
    b.cdn.trigger(order(origin, retry_limit=None))
    assert Reason.LENGTH_MISMATCH == (await b.failure()).reason
    assert 416 in {access.status for access in origin.log}


async def test_a_wrong_digest_is_final_and_leaves_nothing(tmp_path: Path, origin: Origin, b: CDNBench) -> None:
    origin.serve("/file", BODY)
    b.cdn.trigger(order(origin, digest="sha256:" + "0" * 64))
    copy = await b.ended()
    assert copy.failure is not None
    assert (copy.failure.reason, copy.cached, copy.generation) == (Reason.DIGEST_MISMATCH, 0, "")
    assert BODY.size == origin.body_bytes("/file")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


async def test_an_unframed_body_is_accepted_with_a_digest(origin: Origin, b: CDNBench) -> None:
    origin.serve("/file", BODY, script=[Behaviour(framing="close", close_after=MIB)], always=Behaviour(framing="close"))
    b.cdn.trigger(order(origin, digest=f"sha256:{sha256(BODY)}"))
    await b.whole(BODY.read(0, BODY.size))


@pytest.mark.parametrize("validators", ["all", "etag", "modified", "none"])
async def test_contents_of_two_requests_are_never_mixed(origin: Origin, b: CDNBench, validators: str) -> None:
    cut = Behaviour(close_after=MIB, validators=validators)  # type: ignore[arg-type]
    new = Behaviour(replace=OTHER, validators=validators)  # type: ignore[arg-type]
    origin.serve("/file", BODY, script=[cut, new], always=Behaviour(validators=validators))  # type: ignore[arg-type]
    b.cdn.trigger(order(origin))
    first = await b.until(lambda copy: copy.cached > 0)
    copy = await b.ended()
    assert copy.status is CDNStatus.SUCCESS
    assert OTHER.read(0, OTHER.size) == b.data()
    assert first.generation != copy.generation


async def test_an_unannounced_change_is_found_by_the_digest(origin: Origin, b: CDNBench) -> None:
    def untold(**more: object) -> Behaviour:
        return Behaviour(validators="none", **more)  # type: ignore[arg-type]

    origin.serve("/file", BODY, script=[untold(close_after=MIB), untold(replace=OTHER)], always=untold())
    b.cdn.trigger(order(origin, digest=f"sha256:{sha256(OTHER)}"))
    await b.whole(OTHER.read(0, OTHER.size))


async def test_a_content_that_always_changes_is_abandoned(origin: Origin, b: CDNBench) -> None:
    changing = [Behaviour(close_after=MIB, replace=Generated(BODY.size, seed=seed)) for seed in range(20)]
    origin.serve("/file", BODY, script=changing)
    b.cdn.trigger(order(origin, retry_limit=None))
    assert Reason.SOURCE_CHANGED == (await b.failure()).reason


async def test_a_closed_port_and_an_unknown_host_are_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but it does not listen
        refused = FetchOrder(TASK, FileSource(f"http://127.0.0.1:{taken.getsockname()[1]}/file"), retry_limit=1)
        async with bench(tmp_path) as b:
            b.cdn.trigger(refused)
            assert Reason.SOURCE_REFUSED == (await b.failure()).reason
            b.cdn.trigger(FetchOrder(TASK, FileSource("http://no-such-host.invalid/file", attempt="2"), retry_limit=0))
            copy = await b.until(lambda copy: copy.failure is not None and copy.failure.reason != Reason.SOURCE_REFUSED)
            assert copy.failure is not None
            assert copy.failure.reason == Reason.SOURCE_HOST_UNKNOWN


async def test_retry_after_is_honoured(origin: Origin, b: CDNBench) -> None:
    origin.serve("/file", BODY, script=[Behaviour(status=503, headers={"Retry-After": "77"})])
    b.cdn.trigger(order(origin))
    await b.ended()
    assert b.delays == [77.0]


async def test_new_credentials_are_used_at_once(origin: Origin, b: CDNBench) -> None:
    origin.serve("/file", BODY, always=Behaviour(require={"Authorization": "Bearer new"}))
    b.cdn.trigger(order(origin, headers={"Authorization": "Bearer old"}))
    assert (await b.ended()).status is CDNStatus.FAILED
    b.cdn.trigger(order(origin, headers={"Authorization": "Bearer new"}))
    assert (await b.until(lambda copy: copy.status is CDNStatus.SUCCESS)).failure is None


async def test_without_range_support_existing_pieces_are_skipped(origin: Origin, b: CDNBench) -> None:
    origin.serve("/file", BODY, script=[Behaviour(close_after=2 * MIB)], always=Behaviour(ranges=False))
    b.cdn.trigger(order(origin))
    first = await b.until(lambda copy: copy.cached.bit_count() >= 8)
    copy = await b.ended()
    assert (CDNStatus.SUCCESS, first.generation) == (copy.status, copy.generation)
    assert BODY.read(0, BODY.size) == b.data()
    assert [2 * MIB, BODY.size] == [access.sent for access in origin.log]


async def test_each_connection_reads_several_segments(tmp_path: Path, origin: Origin) -> None:
    origin.serve("/file", BODY, always=Behaviour(rate=4 * MIB))
    division = Division(segment=PIECE, window=0.02, gain=0.0, patience=0.0, least=0)
    async with http_reader() as reader, CDNBench(tmp_path, reader, connections=4, division=division) as b:
        b.cdn.trigger(order(origin))
        await b.whole(BODY.read(0, BODY.size))
    assert len(origin.log) > 12
    assert 2 <= origin.connections <= 5, "only the first request is ended early"


async def test_pause_keeps_the_pieces_and_trigger_continues(origin: Origin, b: CDNBench) -> None:
    origin.serve("/file", BODY)
    origin.rate = 4 * MIB
    b.cdn.trigger(order(origin))
    await b.until(lambda copy: copy.cached.bit_count() >= 4)
    b.cdn.pause(TASK)
    await asyncio.sleep(0.1)
    paused, sent = b.cdn.status(TASK), origin.body_bytes("/file")
    assert paused.status is CDNStatus.WAITING
    await asyncio.sleep(0.2)
    assert (paused, sent) == (b.cdn.status(TASK), origin.body_bytes("/file"))
    origin.rate = None
    b.cdn.trigger(order(origin))
    copy = await b.ended()
    assert (CDNStatus.SUCCESS, paused.generation) == (copy.status, copy.generation)
    continued = int(origin.requests("/file")[1].range.removeprefix("bytes=").removesuffix("-"))
    assert 0 <= continued - paused.cached.bit_count() * PIECE < PIECE


async def test_a_restart_reads_no_byte_again_that_arrived(tmp_path: Path, origin: Origin) -> None:
    origin.serve("/file", BODY)
    origin.rate = 4 * MIB
    async with bench(tmp_path) as b:
        b.cdn.trigger(order(origin))
        await b.until(lambda copy: copy.cached.bit_count() >= 8)
    origin.rate = None
    async with bench(tmp_path) as b:
        recovered = b.cdn.status(TASK)
        assert (recovered.status, recovered.cached.bit_count() >= 8) == (CDNStatus.WAITING, True)
        b.cdn.trigger(order(origin, digest=f"sha512:{hashlib.sha512(BODY.read(0, BODY.size)).hexdigest()}"))
        copy = await b.ended()
        assert (CDNStatus.SUCCESS, recovered.generation) == (copy.status, copy.generation)
    assert BODY.size - recovered.origin_bytes == origin.log[1].sent
    assert BODY.size - recovered.cached.bit_count() * PIECE >= origin.log[1].sent
    async with bench(tmp_path) as b:
        assert (CDNStatus.SUCCESS, copy.digest) == (b.cdn.status(TASK).status, b.cdn.status(TASK).digest)
        b.cdn.trigger(order(origin))
        await asyncio.sleep(0.05)
    assert len(origin.log) == 2


async def test_only_a_bad_piece_is_fetched_again_after_a_restart(tmp_path: Path, origin: Origin) -> None:
    origin.serve("/file", BODY)
    async with bench(tmp_path) as b:
        b.cdn.trigger(order(origin))
        whole = await b.ended()
        path = b.store.get(TASK).path  # type: ignore[union-attr]
    with path.open("r+b") as file:
        file.seek(3 * PIECE + 5)
        file.write(b"rotten")
    async with bench(tmp_path) as b:
        assert whole.cached & ~(1 << 3) == b.cdn.status(TASK).cached
        b.cdn.trigger(order(origin))
        assert (whole.digest, whole.generation) == ((copy := await b.ended()).digest, copy.generation)
        assert BODY.read(0, BODY.size) == b.data()
    assert [("", 200), (f"bytes={3 * PIECE}-{4 * PIECE - 1}", 206)] == [(a.range, a.status) for a in origin.log]


async def test_a_copy_on_a_volume_that_cannot_be_read_now_stays(
    tmp_path: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin.serve("/file", BODY)
    async with bench(tmp_path) as b:
        b.cdn.trigger(order(origin))
        whole = await b.ended()
    opened = os.open

    def refuse(path: Path, *arguments: Any, **options: Any) -> int:
        if str(path).endswith("/journal"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opened(path, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        async with bench(tmp_path) as b:
            b.cdn.trigger(order(origin))
            failed = (await b.until(lambda copy: copy.failure)).failure
            assert failed is not None
            assert (Reason.VOLUME_FAILED, False) == (failed.reason, failed.final)
            assert "Mount the disk so that this process can write to it" in failed.message
            patched.undo()
            assert (whole.digest, whole.generation) == ((copy := await b.ended()).digest, copy.generation)
            await b.whole(BODY.read(0, BODY.size))
    assert len(origin.log) == 1


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


async def test_a_trickling_body_is_too_slow(tmp_path: Path, origin: Origin) -> None:
    async with bench(tmp_path, timeouts=Timeouts(first_byte=5, stall=5, window=0.3, minimum=MIB)) as b:
        origin.serve("/file", BODY)
        origin.rate = 64 * 1024
        b.cdn.trigger(order(origin, retry_limit=0))
        assert Reason.SOURCE_TIMEOUT == (await b.failure()).reason


async def test_a_full_volume_is_reported_and_the_copy_continues_by_itself(tmp_path: Path) -> None:
    with small_disk(tmp_path, 2 * MIB) as disk:
        async with Origin() as origin, bench(tmp_path) as b:
            origin.serve("/file", BODY)
            b.cdn.trigger(order(origin))
            copy = await b.until(lambda copy: copy.failure is not None)
            assert copy.failure is not None
            assert (copy.failure.reason, copy.failure.final) == (Reason.VOLUME_FULL, False)
            await asyncio.sleep(0.2)
            assert len(origin.log) == 1, "the origin was read although the volume is full"
            resize(disk, 16 * MIB)
            await b.whole(BODY.read(0, BODY.size))


async def test_m1_a_body_without_an_announced_length_never_keeps_a_volume_full(tmp_path: Path) -> None:
    """It may have no end, so what was read of it is freed, and it is not read again soon."""
    with small_disk(tmp_path, 4 * MIB) as disk:
        async with Origin() as origin, bench(disk, headroom=25.0) as b:
            least = [disk_free(disk)]

            def look(copy: Copy) -> bool:
                least.append(disk_free(disk))
                return copy.failure is not None

            origin.serve("/file", BODY, always=Behaviour(framing="chunked", rate=8 * MIB))
            b.cdn.trigger(order(origin))
            copy = await b.until(look)
            assert copy.failure is not None
            assert (copy.failure.reason, copy.failure.final, copy.cached) == (Reason.SOURCE_UNUSABLE, True, 0)
            assert "without announcing a length" in copy.failure.message
            assert min(least) >= MIB, "the headroom was used"
            assert disk_free(disk) > 3.9 * MIB, "the room is not free again"
            assert 1 == len(origin.log)


async def test_m1_an_announced_length_that_needs_the_headroom_is_not_read(tmp_path: Path) -> None:
    with small_disk(tmp_path, BODY.size + MIB // 2) as disk:
        async with Origin() as origin, bench(disk, headroom=25.0) as b:
            origin.serve("/file", BODY)
            b.cdn.trigger(order(origin))
            copy = await b.until(lambda copy: copy.failure is not None)
            assert copy.failure is not None
            assert Reason.VOLUME_FULL == copy.failure.reason
            assert "must stay free" in copy.failure.message


@pytest.mark.parametrize("second", [Behaviour(replace=OTHER), Behaviour(announced=-1)])
async def test_pieces_are_withdrawn_before_they_are_deleted(origin: Origin, b: CDNBench, second: Behaviour) -> None:
    """The digest of a reported piece stays available until the piece is withdrawn."""
    seen = b.seen

    class Watching(PieceStore):
        def delete(self, task_id: str) -> None:
            assert seen[-1].cached == 0
            super().delete(task_id)

    b.store.__class__ = Watching
    origin.serve("/file", BODY, script=[Behaviour(reset_after=MIB), second], always=Behaviour(replace=OTHER))
    b.cdn.trigger(order(origin))
    async with asyncio.timeout(20):
        while not seen or seen[-1].status is not CDNStatus.SUCCESS:
            for piece in members(seen[-1].cached) if seen else ():
                b.cdn.piece_digest(TASK, piece)
            await asyncio.sleep(0)
    assert OTHER.read(0, OTHER.size) == b.data()
