"""A cached copy that a task wants again, and how long an answer is fresh."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from pantala_pieces.meta import Meta
from pantala_protocol.reasons import Reason
from pantala_protocol.statement import CDNStatus
from pantala_supernode import errors
from pantala_supernode.cdn.copy_state import CopyUse
from pantala_supernode.origin.body import ChunkBody
from pantala_supernode.origin.freshness import LONGEST, is_fresh, lifetime, same_content
from pantala_supernode.origin.source import Answer
from pantala_supernode.tasks.copy import Copy, FetchOrder, FileSource
from tests.support.cdn import TASK, CDNBench
from tests.support.source import Content, FakeReader, Step

OLD = Content(random.Random(0).randbytes(300_000), '"v1"')
NEW = Content(random.Random(1).randbytes(400_000), '"v2"')
LEASE = FetchOrder(TASK, FileSource("http://origin/file", attempt="lease:"), stale_will_do=True)
CLAIM = FetchOrder(TASK, FileSource("http://origin/file", attempt="uid:"), claims=frozenset({"uid"}))


class Bench(CDNBench):
    def __init__(self, directory: Path, *steps: Step, content: Content = OLD) -> None:
        self.source = FakeReader(content, steps)
        super().__init__(directory, self.source, fresh_for=60.0)

    async def idle(self, order: FetchOrder = LEASE, *, seconds: float = 3600.0) -> Copy:
        """Make a whole copy without a task."""
        self.cdn.trigger(order)
        copy = await self.whole()
        await asyncio.sleep(0.02)  # its owners are recorded
        self.cdn.retire(TASK)
        self.now += seconds
        self.source.requests.clear()
        self.source.sent = 0
        self.seen.clear()
        return copy

    def check_revalidated(self) -> None:
        """The origin was asked once and sent no body. Before its answer the copy was hidden."""
        assert ([True], 0) == ([resume.complete for resume in self.source.requests if resume], self.source.sent)
        assert {""} == {copy.generation for copy in self.seen if copy.status is not CDNStatus.SUCCESS}


async def test_an_unchanged_content_is_a_hit_without_a_body(tmp_path: Path) -> None:
    async with Bench(tmp_path) as b:
        before = await b.idle()
        b.cdn.trigger(LEASE)
        assert Copy(TASK, attempt="lease:", origin_bytes=before.origin_bytes) == b.cdn.status(TASK)
        assert before == await b.whole()
        b.check_revalidated()
        assert 1 == b.cdn.worker.uses[CopyUse.REVALIDATED]
        b.cdn.retire(TASK)
        b.cdn.trigger(LEASE)
        assert before == b.cdn.status(TASK)  # confirmed just now
        assert 1 == len(b.source.requests)


async def test_a_weak_etag_is_enough_for_the_origin_to_confirm_a_copy(tmp_path: Path) -> None:
    async with Bench(tmp_path, content=Content(OLD.data, 'W/"v1"')) as b:
        before = await b.idle()
        b.cdn.trigger(LEASE)
        assert before == await b.whole()
        b.check_revalidated()


async def test_an_origin_without_conditions_confirms_by_its_headers(tmp_path: Path) -> None:
    async with Bench(tmp_path, Step(), Step(conditional=False)) as b:
        before = await b.idle()
        b.cdn.trigger(LEASE)
        assert before == await b.whole()
        assert (1, 0) == (len(b.source.requests), b.source.sent)


@pytest.mark.parametrize("order", [LEASE, CLAIM], ids=["lease", "task"])
async def test_changed_content_replaces_the_old_from_the_same_answer(tmp_path: Path, order: FetchOrder) -> None:
    async with Bench(tmp_path, Step(), Step(replace=NEW)) as b:
        before = await b.idle()
        b.cdn.trigger(order)
        after = await b.whole()
        assert before.generation != after.generation
        assert before.generation not in {copy.generation for copy in b.seen}
        assert NEW.data == b.data()
        assert (1, len(NEW.data)) == (len(b.source.requests), b.source.sent)
        assert (0, 2) == (b.cdn.worker.uses[CopyUse.REVALIDATED], b.cdn.worker.uses[CopyUse.MISS])


async def test_a_validator_with_any_bytes_is_sent_back_after_a_restart(tmp_path: Path) -> None:
    content = Content(OLD.data, '"f\xfcr\x80\xff"')
    async with Bench(tmp_path, content=content) as b:
        await b.idle()
    async with Bench(tmp_path, content=content) as b:
        b.now += 3600.0
        b.cdn.trigger(LEASE)
        await b.whole()
        b.check_revalidated()
        assert [content.validator] == [resume.validator for resume in b.source.requests if resume]


async def test_content_without_a_validator_is_read_again(tmp_path: Path) -> None:
    async with Bench(tmp_path, content=Content(OLD.data)) as b:
        before = await b.idle(seconds=1.0)
        b.cdn.trigger(LEASE)
        assert before.generation != (await b.whole()).generation
        assert len(OLD.data) == b.source.sent


async def test_a_young_copy_is_used_at_once(tmp_path: Path) -> None:
    async with Bench(tmp_path) as b:
        before = await b.idle(seconds=59.0)
        b.cdn.trigger(LEASE)
        assert before == b.cdn.status(TASK)
        await asyncio.sleep(0.01)
        assert ([], 1) == (b.source.requests, b.cdn.worker.uses[CopyUse.HIT])


async def test_a_copy_in_use_is_not_revalidated(tmp_path: Path) -> None:
    async with Bench(tmp_path) as b:
        b.cdn.trigger(LEASE)
        before = await b.whole()
        b.now += 3600.0
        b.source.requests.clear()
        b.cdn.trigger(CLAIM)
        assert before.generation == b.cdn.status(TASK).generation
        await asyncio.sleep(0.02)
        assert [] == b.source.requests


async def test_an_owner_keeps_its_copy_over_a_restart(tmp_path: Path) -> None:
    async with Bench(tmp_path, content=Content(OLD.data)) as b:
        b.cdn.trigger(LEASE)
        await b.whole()
        b.cdn.trigger(CLAIM)  # joins
        await asyncio.sleep(0.05)
        before = b.cdn.status(TASK)
    async with Bench(tmp_path) as b:
        b.now += 3600.0
        b.cdn.trigger(CLAIM)
        after = await b.whole()
        assert (before.generation, before.digest) == (after.generation, after.digest)
        assert [] == b.source.requests


async def test_a_new_owner_after_a_restart_has_the_copy_revalidated(tmp_path: Path) -> None:
    async with Bench(tmp_path) as b:
        await b.idle(CLAIM)
    async with Bench(tmp_path) as b:
        b.now += 3600.0
        b.cdn.trigger(LEASE)
        await b.whole()
        b.check_revalidated()


async def test_an_order_before_the_volume_is_read_revalidates_too(tmp_path: Path) -> None:
    async with Bench(tmp_path) as b:
        await b.idle(CLAIM)
    b = Bench(tmp_path)
    b.now += 3600.0
    b.cdn.trigger(LEASE)
    recovering = asyncio.create_task(b.cdn.recover())  # both look at the copy, at once
    while not recovering.done():
        b.seen.append(b.cdn.status(TASK))
        await asyncio.sleep(0)
    await b.whole()
    b.check_revalidated()
    assert 1 == b.cdn.worker.uses[CopyUse.REVALIDATED]
    await b.cdn.copies.close()


async def test_a_known_digest_needs_no_revalidation(tmp_path: Path) -> None:
    order = FetchOrder(TASK, FileSource("http://origin/file", digest=""))
    async with Bench(tmp_path) as b:
        before = await b.idle(order)
        pinned = FetchOrder(TASK, FileSource("http://origin/file", digest=before.digest))
        b.cdn.trigger(pinned)
        assert before.digest == b.cdn.status(TASK).digest
        assert [] == b.source.requests


@pytest.mark.parametrize("error", [errors.SourceRefusedError("no"), errors.SourceAnswerError("503")])
async def test_leases_use_a_stale_copy_if_the_origin_is_away(tmp_path: Path, error: errors.SourceError) -> None:
    async with Bench(tmp_path, Step(), Step(error=error)) as b:
        before = await b.idle()
        b.cdn.trigger(LEASE)
        assert before == await b.whole()
        assert 1 == b.cdn.worker.uses[CopyUse.STALE]
        b.cdn.retire(TASK)
        b.cdn.trigger(LEASE)  # what was not confirmed is asked for again
        await b.until(lambda _: b.cdn.worker.uses[CopyUse.REVALIDATED] == 1)


async def test_tasks_wait_for_the_origins_confirmation(tmp_path: Path) -> None:
    faults = [Step(), *(Step(error=errors.SourceRefusedError("no")) for _ in range(3))]
    async with Bench(tmp_path, *faults) as b:
        before = await b.idle()
        b.cdn.trigger(CLAIM)
        after = await b.whole()
        assert (before.generation, 4, 0) == (after.generation, len(b.source.requests), b.source.sent)
        reasons = [copy.failure.reason for copy in b.seen if copy.failure is not None]
        assert {Reason.SOURCE_REFUSED} == set(reasons)
        assert {""} == {copy.generation for copy in b.seen if copy.status is not CDNStatus.SUCCESS}


@pytest.mark.parametrize("order", [LEASE, CLAIM], ids=["lease", "task"])
async def test_a_file_that_the_origin_removed_is_not_served(tmp_path: Path, order: FetchOrder) -> None:
    gone = Step(error=errors.SourceNotFoundError("gone"))
    async with Bench(tmp_path, Step(), gone) as b:
        await b.idle()
        b.cdn.trigger(order)
        copy = await b.until(lambda copy: copy.failure is not None)
        assert (CDNStatus.FAILED, "", 0) == (copy.status, copy.generation, copy.cached)
        b.cdn.retire(TASK)  # and wanted again: it is asked again
        b.cdn.trigger(order)
        assert (await b.whole()).failure is None


async def test_an_interrupted_revalidation_is_repeated(tmp_path: Path) -> None:
    async with Bench(tmp_path) as b:
        before = await b.idle()
        b.cdn.trigger(LEASE)
        b.cdn.retire(TASK)
        await asyncio.sleep(0.02)
        b.cdn.trigger(LEASE)
        assert "" == b.cdn.status(TASK).generation
        assert before == await b.whole()
        assert 1 == b.cdn.worker.uses[CopyUse.REVALIDATED]


async def test_a_cut_in_changed_content_is_resumed(tmp_path: Path) -> None:
    steps = [Step(), Step(replace=NEW, cut_after=300_000)]
    async with Bench(tmp_path, *steps) as b:
        await b.idle()
        b.cdn.trigger(LEASE)
        await b.whole()
        assert NEW.data == b.data()
        assert [(0, True), (262144, False)] == [(r.offset, r.complete) for r in b.source.requests if r]


DATE = "Mon, 23 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Cache-Control": "max-age=60"}, 60.0),
        ({"Cache-Control": "public, Max-Age=60"}, 60.0),
        ({"Cache-Control": 'max-age="60"'}, 60.0),
        ({"Cache-Control": "max-age=60, s-maxage=5"}, 5.0),
        ({"Cache-Control": "max-age=60", "Age": "50"}, 10.0),
        ({"Cache-Control": "max-age=60", "Age": "90"}, 0.0),
        ({"Cache-Control": "max-age=60", "Age": "x"}, 60.0),
        ({"Cache-Control": "max-age=60, no-cache"}, 0.0),
        ({"Cache-Control": "no-store"}, 0.0),
        ({"Cache-Control": "private, max-age=60"}, 0.0),
        ({"Cache-Control": "max-age=9999999999"}, LONGEST),
        ({"Cache-Control": "max-age=-1"}, None),
        ({"Cache-Control": "max-age"}, None),
        ({"Cache-Control": "public"}, None),
        ({"Date": DATE, "Expires": "Mon, 23 Nov 2026 12:01:00 GMT"}, 60.0),
        ({"Date": DATE, "Expires": "Mon, 23 Nov 2026 11:01:00 GMT"}, 0.0),
        ({"Date": DATE, "Expires": "0"}, 0.0),
        ({"Expires": "Mon, 23 Nov 2026 12:01:00 GMT"}, 0.0),
        ({"Date": DATE, "Expires": "Mon, 23 Nov 2026 12:01:00 GMT", "Cache-Control": "max-age=5"}, 5.0),
    ],
)
def test_the_lifetime_comes_from_the_headers(headers: dict[str, str], seconds: float | None) -> None:
    assert seconds == lifetime(CIMultiDict(headers))


@pytest.mark.parametrize(
    ("meta", "order", "sure"),
    [
        ({"etag": '"v"', "confirmed": 995.0}, {}, True),
        ({"last_modified": "then", "confirmed": 995.0}, {}, True),
        ({"etag": '"v"', "confirmed": 990.0}, {}, False),
        ({"etag": '"v"', "confirmed": 1001.0}, {}, False),  # the clock was set back
        ({"confirmed": 1000.0}, {}, False),  # nothing that it could be asked for by
        ({"confirmed": 995.0, "lifetime": 6.0}, {}, True),
        ({"etag": '"v"', "confirmed": 995.0, "lifetime": 0.0}, {}, False),
        ({"etag": '"v"', "confirmed": 900.0, "lifetime": 200.0}, {}, True),
        ({}, {"source": FileSource("http://origin/file", digest="sha256:" + "0" * 64)}, True),
        ({"claims": ("uid",)}, {"claims": frozenset({"uid", "other"})}, True),
        ({"claims": ("former",)}, {"claims": frozenset({"uid"})}, False),
    ],
)
def test_a_fresh_copy_needs_no_request(meta: dict, order: dict, sure: bool) -> None:  # type: ignore[type-arg]
    known = Meta(TASK, "g", 1, **meta)
    wanted = FetchOrder(TASK, **{"source": FileSource("http://origin/file"), **order})
    assert sure is is_fresh(known, wanted, now=1000.0, fresh_for=10.0)


async def _no_bytes() -> AsyncIterator[bytes]:
    yield b""


ETAGS, DATES = st.sampled_from(["", '"a"', '"b"']), st.sampled_from(["", "Mon, 05 Jan 2026 10:00:00 GMT"])


@given(st.tuples(ETAGS, DATES), st.tuples(ETAGS, DATES), st.sampled_from([None, 5, 6]), st.integers(0, 4))
def test_without_a_digest_only_an_equal_validator_joins_the_bytes_of_two_answers(
    before: tuple[str, str], now: tuple[str, str], length: int | None, offset: int
) -> None:
    """A weak ETag is no validator. It may stay while bytes change, so the file would have bytes of two contents."""
    meta = Meta(TASK, "g", 4, 5, etag=before[0], last_modified=before[1])
    answer = Answer(length, offset, *now, framed=True, body=ChunkBody(_no_bytes()))
    if same_content(answer, meta):
        assert before[0] == now[0] != "" or before[1] == now[1] != ""
