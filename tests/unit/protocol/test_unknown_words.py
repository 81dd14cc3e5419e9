"""A message of a version that is one minor version newer: unknown words and fields degrade, and the rest holds."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from pantala_protocol.images import (
    Depth,
    ImageBlob,
    NodeOrder,
    NodeOrders,
    PullOrder,
    PullPhase,
    PullState,
    RuntimeState,
    WantedImage,
)
from pantala_protocol.registry import ManifestAnswer, Resolve, Resolved
from pantala_protocol.rules.fields import UNKNOWN, WireWord
from pantala_protocol.statement import (
    CDNStatus,
    Changes,
    Failure,
    Member,
    Membership,
    PeerReport,
    Statement,
    StatementReceipt,
    TaskReport,
    WantedTask,
)
from pantala_protocol.sync import (
    Assignment,
    Delivery,
    DeliveryState,
    DeliveryStatus,
    HeldPieces,
    PieceFailure,
    PieceWork,
    SyncAnswer,
    SyncRequest,
    WantedBlob,
)
from pantala_supernode.replicas.client import SourceRequest
from pantala_supernode.replicas.decision import CopyReport, Stage

DIGEST = "sha256:" + "a" * 64
TASK = "1" * 64
PULL = PullState(PullPhase.READY, 7, "run", 2, 3, "NotFound", "no such image", (1, 2))
ORDER = PullOrder("run", 2, 60)
BLOB = ImageBlob(DIGEST, 9)
MEMBERS = Membership(3, (Member("a", "http://a", leaving=True),))
STATE = RuntimeState("containerd", "2", True, "fine", True, 5, {DIGEST: True})
FAILURE = Failure("NotFound", "no such file", final=True, peer="n2")

MESSAGES: tuple[msgspec.Struct, ...] = (
    SyncRequest(
        "n1",
        "boot",
        7,
        inventory={TASK: HeldPieces("g", "0-3")},
        done={TASK: HeldPieces("g", "4")},
        failures=(PieceFailure(TASK, 3, "n2", "corrupt"),),
        deliveries={
            "uid": DeliveryState(DeliveryStatus.PUBLISHED, path="p"),
            "other": DeliveryState(DeliveryStatus.FAILED, "PathConflict", "taken", "q"),
            "third": None,
        },
        wants={TASK: WantedBlob("r", "a", DIGEST, 5, 1)},
        pulls={"ns/a": PULL, "ns/b": PullState(PullPhase.PULLING, 1)},
        runtime=STATE,
    ),
    SyncAnswer(
        "boot",
        7,
        key="00",
        assignments=(Assignment(TASK, "g", 1 << 20, 5, DIGEST, (Delivery("uid", "p"),), 3),),
        work=(PieceWork(TASK, "g", 0, 0, 5, "00", "h", 1, "t", content=b"hello"),),
        membership=MEMBERS,
        images=NodeOrders(5, (NodeOrder("ns/a", "r/a@" + DIGEST, ORDER, Depth.PEER, True, (BLOB,)),), (DIGEST,)),
    ),
    Statement(
        5,
        (WantedTask("uid", "ns/a", TASK, "http://o/f", {"A": "b"}, peers=("n1",)),),
        MEMBERS,
        "a",
        (WantedImage("ns/a", "r/a@" + DIGEST, Depth.PEER, True, blobs={"linux/amd64": (BLOB,)}, orders={"n1": ORDER}),),
    ),
    Changes(
        "boot",
        5,
        3,
        True,
        (TaskReport("uid", TASK, cdn_status=CDNStatus.SUCCESS, length=5, failure=FAILURE, failures=(FAILURE,)),),
        ("old",),
        (PeerReport("n1", True, "10.0.0.1", 8, pulls={"ns/a": PULL}, runtime=STATE),),
    ),
    StatementReceipt("boot", 5),
    CopyReport(TASK, Stage.READING, generation="g", piece_size=1 << 20, length=5, cached="0", failure=FAILURE),
    SourceRequest("http://o/f", {"A": "b"}),
    Resolve("r/a:1", ("linux/amd64",)),
    Resolved(DIGEST, {"linux/amd64": (BLOB,)}),
    ManifestAnswer(DIGEST, "type", b"{}", ("Basic",)),
)
"""One example of each message. Each optional field with words of its own is set."""


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], WireWord]]:
    """The paths of all words of enums in a message."""
    if isinstance(value, WireWord):
        yield path, value
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from places(getattr(value, name), (*path, name))
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, tuple):
        for number, inner in enumerate(value):
            yield from places(inner, (*path, number))


def replaced(value: Any, path: tuple[Any, ...], word: str) -> Any:
    """The JSON of a message with another word at ``path``. Omitted defaults are written."""
    if not path:
        return word
    inner = value.get(path[0]) if isinstance(value, dict) else value[path[0]]
    changed = replaced(inner, path[1:], word)
    if isinstance(value, dict):
        return {**value, path[0]: changed}
    return [*value[: path[0]], changed, *value[path[0] + 1 :]]


def with_unknown_fields(value: Any, kind: object) -> Any:
    """The JSON with one more member in each object that is a struct."""
    if isinstance(kind, msgspec.Struct):
        known = {
            name: with_unknown_fields(inner, getattr(kind, name))
            for name, inner in value.items()
            if hasattr(kind, name)
        }
        return {**known, "from_the_future": {"any": [1, None]}}
    if isinstance(kind, dict):
        return {key: with_unknown_fields(inner, kind[key]) for key, inner in value.items()}
    if isinstance(kind, tuple):
        return [with_unknown_fields(inner, each) for inner, each in zip(value, kind, strict=True)]
    return value


def shown(part: object) -> str:
    return ".".join(map(str, part)) if isinstance(part, tuple) else type(part).__name__


CASES = [(message, path, word) for message in MESSAGES for path, word in places(message)]


@pytest.mark.parametrize(
    ("message", "path", "word"),
    CASES,
    ids=lambda part: ".".join(map(str, part)) if isinstance(part, tuple) else type(part).__name__,
)
def test_m9_an_unknown_word_degrades_and_the_rest_holds(
    message: msgspec.Struct, path: tuple[Any, ...], word: WireWord
) -> None:
    plain = msgspec.json.decode(msgspec.json.encode(message))
    taken = msgspec.json.decode(msgspec.json.encode(replaced(plain, path, "FromTheFuture")), type=type(message))
    wanted = msgspec.json.decode(msgspec.json.encode(replaced(plain, path, UNKNOWN)), type=type(message))
    assert wanted == taken
    words = dict(places(taken))
    assert type(word)(UNKNOWN) is words.pop(path)
    assert {each: value for each, value in places(message) if each != path} == words


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_m9_unknown_fields_are_ignored(message: msgspec.Struct) -> None:
    newer = with_unknown_fields(msgspec.json.decode(msgspec.json.encode(message)), message)
    assert message == msgspec.json.decode(msgspec.json.encode(newer), type=type(message))


def test_m9_each_enum_of_messages_has_a_case() -> None:
    assert set(WireWord.__subclasses__()) == {type(word) for _, _, word in CASES}
    assert all(UNKNOWN in {str(word) for word in kind} for kind in WireWord.__subclasses__())


def test_m9_a_wrong_type_is_not_an_unknown_word() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"phase":7,"since":1}', type=PullState)
