"""The CDN with real sockets and a real disk, and good and bad origins."""

import asyncio
import hashlib
import socket
from pathlib import Path

import pytest

from pantala_pieces.store import PieceStore
from pantala_protocol.ranges import members
from pantala_protocol.reasons import Reason
from pantala_protocol.statement import CDNStatus
from pantala_supernode.cdn.segments import Division
from pantala_supernode.outbound.request import Timeouts
from pantala_supernode.tasks.copy import FetchOrder, FileSource
from testbed.origin import Behaviour, Generated, Origin, sha256
from tests.support.cdn import TASK, CDNBench
from tests.support.cdn_origin import BODY, MIB, OTHER, PIECE, bench, order
from tests.support.outbound import http_reader


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


async def test_a_trickling_body_is_too_slow(tmp_path: Path, origin: Origin) -> None:
    async with bench(tmp_path, timeouts=Timeouts(first_byte=5, stall=5, window=0.3, minimum=MIB)) as b:
        origin.serve("/file", BODY)
        origin.rate = 64 * 1024
        b.cdn.trigger(order(origin, retry_limit=0))
        assert Reason.SOURCE_TIMEOUT == (await b.failure()).reason


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
