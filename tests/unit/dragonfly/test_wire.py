"""Requests of Dragonfly's clients, the wrapping of pieces and their checksums."""

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from pantala_pieces.file import PieceFile
from pantala_pieces.meta import Meta
from pantala_pieces.store import PieceStore
from pantala_process.settings import SettingsError
from pantala_protocol import task_id
from pantala_protocol.geometry import Wrapping
from pantala_supernode.dragonfly import checksums, wire
from pantala_supernode.dragonfly.checksums import Checksums
from pantala_supernode.settings import parse
from tests.support.pieces import pieces_of

URL = "http://origin.example/f?a=1&b=2"


def registration(**fields: object) -> wire.Registration:
    sent = {"rawUrl": URL, "cid": "c", "ip": "10.0.0.1", "port": 0, "path": "/f", **fields}
    return wire.read_registration(json.dumps(sent).encode())


def test_a_plain_url_is_the_task_of_a_task_resource() -> None:
    assert task_id.compute(URL) == registration().task_id


def test_c2_a_client_that_sends_more_than_a_url_cannot_name_the_task_of_a_task_resource() -> None:
    """Clients do not authenticate, and an origin may answer each header with other content."""
    first = registration(headers=["User-Agent: x", "Accept: */*"])
    assert task_id.compute(URL) != first.task_id
    assert first.task_id == registration(headers=["User-Agent: y"]).task_id


def test_c2_clients_that_ignore_different_parameters_do_not_share() -> None:
    url = "http://origin.example/f"
    versions = registration(rawUrl=f"{url}?version=old", taskUrl=url)
    signed = registration(rawUrl=f"{url}?sig=a", taskUrl=url)
    assert versions.task_id != signed.task_id
    assert signed.task_id == registration(rawUrl=f"{url}?sig=b", taskUrl=url).task_id


def test_whatever_may_decide_access_makes_another_task() -> None:
    variants: list[dict[str, object]] = [
        {},
        {"md5": "0" * 32},
        {"identifier": "i"},
        {"headers": ["Authorization: Bearer a"]},
        {"headers": ["Authorization: Bearer b"]},
        {"headers": ["X-Anything: b"]},
        {"taskUrl": "http://origin.example/f?a=1"},
    ]
    assert len(variants) == len({registration(**variant).task_id for variant in variants})


def test_a_url_with_parameters_left_out_names_another_task() -> None:
    """Otherwise a client could fetch other content under that name."""
    left_out = registration(taskUrl="http://origin.example/f")
    assert task_id.compute("http://origin.example/f") != left_out.task_id
    assert URL == left_out.raw_url


@pytest.mark.parametrize(
    "url", ["http://other.example/f?a=1", "http://origin.example/g", "http://origin.example/f?b=2&a=1"]
)
def test_another_file_cannot_be_named(url: str) -> None:
    with pytest.raises(wire.MalformedRequestError):
        registration(taskUrl=url)


def test_headers_are_joined_without_those_of_the_hop() -> None:
    lines = ["A: 1", "a:2", "Host: x", "Empty:", "Connection: close", "If-None-Match: e", "C:a:b"]
    assert {"A": "1,2", "C": "a:b"} == registration(headers=lines).headers


def test_the_user_s_md5_wins_over_an_identifier() -> None:
    assert ("a" * 32, "") == (
        registration(md5="a" * 32, identifier="i").md5,
        registration(md5="a" * 32, identifier="i").identifier,
    )


@pytest.mark.parametrize(
    ("flag", "expected"), [(True, True), ("true", True), (False, False), ("no", False), (None, False)]
)
def test_flags_are_read_in_any_form(flag: object, expected: bool) -> None:
    assert expected == registration(dfdaemon=flag).dfdaemon


def test_a_first_pull_may_carry_stale_values() -> None:
    pull = wire.read_pull({"srcCid": "c", "dstCid": "d", "range": "x", "result": "502", "status": "700", "taskId": "t"})
    assert wire.PullRequest("c", "t", wire.PieceStatus.STARTED, wire.PieceResult.INVALID, "x", "d") == pull


@pytest.mark.parametrize("query", [{"status": "699"}, {"status": "701", "result": "502"}, {"status": "9" * 30}])
def test_an_invalid_pull_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(wire.MalformedRequestError):
        wire.read_pull(query)


def test_an_envelope_leaves_out_empty_fields() -> None:
    assert {"code": 602} == wire.envelope(wire.Code.WAIT)
    assert {"code": 600, "msg": "m", "data": []} == wire.envelope(wire.Code.FINISHED, "m", [])


FOUR_MIB = Wrapping(4 * 1024 * 1024 - 5)


def test_heads_lengths_and_ranges_of_the_worked_example() -> None:
    last = 10_000_000 - 2 * FOUR_MIB.piece_size
    assert (4194304, 1611402, 10_000_015) == (FOUR_MIB.wire_size, last, FOUR_MIB.length(10_000_000))
    assert ("043ffffb", "0418968a") == (FOUR_MIB.head(FOUR_MIB.piece_size).hex(), FOUR_MIB.head(last).hex())
    assert ["0-4194303", "4194304-8388607", "8388608-12582911"] == [FOUR_MIB.range(piece) for piece in range(3)]
    assert [0, 1, 2] == [FOUR_MIB.piece(FOUR_MIB.range(piece)) for piece in range(3)]


def test_an_empty_file_is_one_piece_without_content() -> None:
    wrapped = FOUR_MIB.wrap(b"")
    assert "d6991051769098273e82477afd2bb93e" == hashlib.md5(wrapped, usedforsecurity=False).hexdigest()
    assert (5, bytes.fromhex("040000007f")) == (FOUR_MIB.length(0), wrapped)


def test_a_head_never_has_more_than_four_bytes() -> None:
    huge = Wrapping(1 << 30)
    assert 4 == len(huge.head(1 << 30))


@pytest.mark.parametrize(
    "text", ["", "0", "-1-3", "0-4194304", "1-4194304", "4194304-8388608", "a-b", "0-4194303,5-6", "\u0660-4194303"]
)
def test_a_range_of_no_piece_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not"):
        FOUR_MIB.piece(text)


ID = task_id.compute("http://origin.example/f")
CONTENT = bytes(range(256)) * 10
P = 1024


@pytest.fixture
def file(tmp_path: Path) -> Iterator[PieceFile]:
    store = PieceStore(tmp_path, durable=False)
    store.open()
    file = store.create(Meta(ID, "g", P, len(CONTENT)))
    file.put(pieces_of(CONTENT, P))
    yield file
    store.close()


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


async def test_sums_are_correct(file: PieceFile) -> None:
    sums = Checksums(lambda _name: file)
    last = Wrapping(P).wrap(CONTENT[2 * P :])
    assert f"{md5(last)}:{len(last)}" == await sums.piece(ID, "g", 2)
    assert md5(CONTENT) == await sums.whole(ID, "g")
    sums.close()


async def test_a_sum_is_computed_once(file: PieceFile) -> None:
    sums = Checksums(lambda _name: file)
    piece, whole = await sums.piece(ID, "g", 0), await sums.whole(ID, "g")
    file.forget(file.have)
    assert (piece, whole) == (await sums.piece(ID, "g", 0), await sums.whole(ID, "g"))
    sums.close()


async def test_simultaneous_callers_share_a_sum(file: PieceFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """One caller leaves early. The sum is computed all the same."""
    counted = Mock(wraps=checksums._piece_sum)
    monkeypatch.setattr(checksums, "_piece_sum", counted)
    sums = Checksums(lambda _name: file)
    callers = [asyncio.create_task(sums.piece(ID, "g", 0)) for _ in range(5)]
    await asyncio.sleep(0)
    callers[0].cancel()
    found = await asyncio.gather(*callers[1:])
    assert (1, 1) == (len(set(found)), counted.call_count)
    sums.close()


async def test_a_missing_piece_has_no_sum(file: PieceFile) -> None:
    sums = Checksums(lambda name: file if name == ID else None)
    for name, generation, piece in ((ID, "g", 3), (ID, "other", 0), ("x", "g", 0)):
        with pytest.raises(LookupError):
            await sums.piece(name, generation, piece)
    file.forget(0b100)
    with pytest.raises(LookupError):
        await sums.whole(ID, "g")
    sums.close()


@pytest.mark.parametrize(
    ("flags", "environment", "expected"),
    [
        ([], {}, (False, 0.0)),
        (["--dragonfly"], {}, (True, 21600.0)),
        ([], {"PANTALA_DRAGONFLY": "1"}, (True, 21600.0)),
        (["--dragonfly", "--cache-seconds", "0"], {}, (True, 0.0)),
        ([], {"PANTALA_CACHE_SECONDS": "60"}, (False, 60.0)),
    ],
)
def test_dragonflys_copies_stay(flags: list[str], environment: dict[str, str], expected: tuple[bool, float]) -> None:
    settings = parse(["--data", "/d", *flags], environment)
    assert expected == (settings.dragonfly, settings.cache_seconds)


@pytest.mark.parametrize("text", ["-1", "x", "1.5", "9" * 10])
def test_seconds_are_a_whole_number(text: str) -> None:
    with pytest.raises(SettingsError, match="cache-seconds"):
        parse(["--data", "/d", f"--cache-seconds={text}"], {})


def test_clients_that_ask_for_different_formats_do_not_share() -> None:
    """For example, GitHub sends the asset of a release or its description, as ``Accept`` says."""
    asset = registration(headers=["Accept: application/octet-stream"])
    assert asset.task_id == registration(headers=["accept: application/octet-stream", "User-Agent: y"]).task_id
    others: tuple[list[str], ...] = (["Accept: application/json"], ["Accept: */*"], ["Accept-Language: de"], [])
    assert asset.task_id not in {registration(headers=headers).task_id for headers in others}
