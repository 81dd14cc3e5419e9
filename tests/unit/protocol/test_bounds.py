"""Hostile numbers and texts in messages: they are refused or clipped before they take memory."""

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pantala_pieces.file import PieceFile
from pantala_pieces.meta import Meta
from pantala_protocol.geometry import Geometry
from pantala_protocol.images import PullOrder, PullPhase, PullState, RuntimeState, WantedImage
from pantala_protocol.rules import text
from pantala_protocol.rules.fields import decode
from pantala_protocol.statement import Failure, Statement
from pantala_protocol.sync import (
    DeliveryState,
    DeliveryStatus,
    HeldPieces,
    PieceFailure,
    PieceWork,
    SyncRequest,
    WantedBlob,
)
from pantala_supernode.images.orders import StatedImages
from pantala_supernode.sync.session import parse_held

HOSTILE = (1 << 31, 1 << 33, 1 << 52, 1 << 53, 1 << 62, 1 << 64, 10**18)


@contextmanager
def little_memory(most: int = 4 << 20) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < most


@pytest.mark.parametrize("number", HOSTILE)
def test_h2_a_range_after_the_file_takes_no_memory(tmp_path: Path, number: int) -> None:
    file = PieceFile(tmp_path, Meta("0" * 64, "g", 128 * 1024, 1 << 30), durable=False)
    file.have = 0b101
    with little_memory():
        assert not file.holds(0, number)
        assert not file.holds(number, number + 1)
        assert not file.holds(0, number * number)
        with pytest.raises(LookupError):
            file.size(number)


@pytest.mark.parametrize("number", HOSTILE)
def test_h2_a_file_with_too_many_pieces_is_refused(number: int) -> None:
    if number > 1 << 40:
        with little_memory(), pytest.raises(ValueError, match="cannot have pieces"):
            Geometry(1024, number)


@pytest.mark.parametrize("number", HOSTILE)
@pytest.mark.parametrize(
    ("kind", "field", "body"),
    [
        (PieceFailure, "piece", b'{"task_id":"t","piece":%d,"provider":"p","kind":"missing"}'),
        (SyncRequest, "window", b'{"peer":"n","boot":"b","seq":1,"window":%d}'),
        (SyncRequest, "downloads", b'{"peer":"n","boot":"b","seq":1,"downloads":%d}'),
        (SyncRequest, "port", b'{"peer":"n","boot":"b","seq":1,"port":%d}'),
        (
            PieceWork,
            "size",
            b'{"task_id":"t","generation":"g","piece":1,"offset":0,"size":%d,"sha256":"","host":"h","port":1,"ticket":""}',
        ),
    ],
)
def test_h2_numbers_of_pieces_and_slots_have_bounds(kind: type, field: str, body: bytes, number: int) -> None:
    with pytest.raises(msgspec.ValidationError, match=field):
        msgspec.json.decode(body % number, type=kind)


@pytest.mark.parametrize("number", [1 << 53, 1 << 64, -1])
def test_h2_positions_have_53_bits(number: int) -> None:
    body = b'{"registry":"r","repository":"a","digest":"d","position":%d}' % number
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(body, type=WantedBlob)


@pytest.mark.parametrize(
    "given",
    ["x" * 100_000, "é" * 50_000, "🙂" * 30_000, "a\nb\r\x00\x1b[31mc\u2028d\u202ee", "ok \ud800 half", "", "short"],
)
@pytest.mark.parametrize("most", [3, 64, text.MESSAGE])
def test_m3_cleaned_text_is_one_short_line(given: str, most: int) -> None:
    found = text.clean(given, most)
    assert len(found.encode()) <= most
    assert found.isprintable()
    assert found == text.clean(found, most)


HELD = HeldPieces("g", "0")


@pytest.mark.parametrize(
    ("most", "fill"),
    [
        (1 << 16, lambda count: {"inventory": {f"{number:064x}": HELD for number in range(count)}}),
        (1 << 16, lambda count: {"done": {f"{number:064x}": HELD for number in range(count)}}),
        (1 << 16, lambda count: {"failures": (PieceFailure("t", 1, "p", "corrupt"),) * count}),
        (1 << 16, lambda count: {"deliveries": {str(number): None for number in range(count)}}),
        (8192, lambda count: {"pulls": {str(number): PullState(PullPhase.READY, 1) for number in range(count)}}),
        (1 << 16, lambda count: {"runtime": RuntimeState(blobs={str(number): True for number in range(count)})}),
    ],
)
def test_a_peer_cannot_report_without_end(most: int, fill: Callable[[int], dict[str, Any]]) -> None:
    """A hostile peer held up the supernode for seconds, or made the operator's reports hundreds of megabytes long."""
    for count, allowed in ((most, True), (most + 1, False)):
        body = msgspec.json.encode(SyncRequest("n", "b", 1, **fill(count)))
        with nullcontext() if allowed else pytest.raises(ValueError, match="length"):
            decode(body, SyncRequest)


def test_a_node_gets_no_more_orders_than_it_can_report() -> None:
    """The objects of one user stopped all exchanges of all peers: their supernodes refused the reports."""
    images = [
        WantedImage(f"ns/{number}", "r.example/a@sha256:0", orders={"n": PullOrder("r", 1)}) for number in range(8200)
    ]
    stated = StatedImages()
    stated.take(Statement(1, images=tuple(images), survey=tuple(f"sha256:{number:064}" for number in range(70_000))))
    orders = stated.orders("n")
    assert orders is not None
    assert {order.key for order in orders.pulls} == {image.key for image in images[:8192]}
    pulls = {order.key: PullState(PullPhase.PULLING, 1) for order in orders.pulls}
    runtime = RuntimeState(blobs=dict.fromkeys(orders.survey, True))
    request = SyncRequest("n", "b", 1, pulls=pulls, runtime=runtime)
    assert request == decode(msgspec.json.encode(request), SyncRequest)


def test_a_peer_cannot_report_ranges_without_end() -> None:
    ranges = ",".join(str(2 * number) for number in range(1 << 18))
    assert 1 == len(parse_held({"a": HeldPieces("g", ranges)}))
    with pytest.raises(ValueError, match="ranges of pieces"):
        parse_held({name: HeldPieces("g", ranges) for name in "abc"})


def test_h2_a_short_report_of_many_pieces_takes_little_memory() -> None:
    with little_memory(2 << 20):
        for text in ("4194303", "0-4194303", "0,4194300-4194303"):
            assert 1 << 22 == parse_held({"a": HeldPieces("g", text)})["a"][1].bit_length()


def test_m3_text_that_is_right_stays() -> None:
    for right in ("", "The origin answered 404. Check spec.source.url.", "Übergröße ✓"):
        assert right == text.clean(right)


@pytest.mark.parametrize(
    "made",
    [
        Failure("not a reason\n", "x" * 100_000, peer="n"),
        PullState(PullPhase.FAILED, 0, reason="a" * 2000, message="é" * 100_000),
        DeliveryState(DeliveryStatus.FAILED, "Läuft", "🙂" * 40_000),
    ],
)
def test_m3_failures_of_other_parties_are_clipped_where_they_enter(made: Failure | PullState | DeliveryState) -> None:
    taken = msgspec.json.decode(msgspec.json.encode(made), type=type(made))
    assert taken == made
    assert len(taken.message.encode()) <= text.MESSAGE
    assert taken.reason in ("Failed", "InternalError")


def test_m3_names_and_versions_are_clipped() -> None:
    request = SyncRequest("n", "b", 1, zone="z\n" * 1000, version="v" * 1000)
    state = RuntimeState("n" * 1000, "v" * 1000, message="m" * 10_000)
    sizes = [len(each.encode()) for each in (request.zone, request.version, state.name, state.version, state.message)]
    assert [text.NAME, text.LABEL, text.NAME, text.NAME, text.MESSAGE] >= sizes
    assert "\n" not in request.zone
