"""A header value is its bytes, from a Secret to the origin and from an origin into our state and back."""

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_operator.plan.secrets import Headers
from pantala_operator.plan.secrets import headers as headers_of
from pantala_operator.resources.api import Metadata, Secret
from pantala_pieces.meta import Meta
from pantala_protocol.registry import ManifestAnswer
from pantala_protocol.rules import headers
from pantala_protocol.statement import Statement, WantedTask
from pantala_protocol.task_id import TaskID
from pantala_supernode.dragonfly import wire
from pantala_supernode.dragonfly.wire import MalformedRequestError
from pantala_supernode.registry import challenge
from pantala_supernode.replicas.client import SourceRequest
from pantala_supernode.replicas.decision import CopyReport, Stage

ALLOWED = {"pantala.dev/allow": "tasks"}

ALL = bytes([9, *range(32, 127), *range(128, 256)])
"""Every byte that a value can have."""
values = st.lists(st.sampled_from(list(ALL)), max_size=40).map(bytes)


@pytest.mark.parametrize(
    ("data", "sent"),
    [
        (b"Bearer t", b"Bearer t"),
        ("Schlüssel für Zoë".encode(), "Schlüssel für Zoë".encode()),
        ("令牌".encode(), "令牌".encode()),
        (b"f\xfcr", b"f\xfcr"),
        (b"\xff\xfe\x80\x9f", b"\xff\xfe\x80\x9f"),
        (b"a\tb", b"a\tb"),
        (b"", b""),
        (b" key \n", b"key"),
        (b"key\r\n", b"key"),
        (b"a\nb", None),
        (b"a\r\nX-Evil: 1", None),
        (b"a\0b", None),
        (b"a\x7fb", None),
        (b"a\x1bb", None),
        (b"\xc3\xbc" * 10_000, None),
    ],
)
def test_a_secret_arrives_at_the_supernode_with_its_own_bytes(data: bytes, sent: bytes | None) -> None:
    secret = Secret(Metadata("s", uid="u", labels=ALLOWED), {"X-Key": base64.b64encode(data).decode()})
    read = headers_of("ns/s", secret)
    assert isinstance(read, Headers) is (sent is not None)
    if isinstance(read, Headers):
        statement = Statement(1, (WantedTask("u", "ns/t", "t", "http://o/f", read.values),))
        taken = msgspec.json.decode(msgspec.json.encode(statement), type=Statement)
        assert sent == headers.to_bytes(taken.tasks[0].headers["X-Key"])


@pytest.mark.parametrize(
    ("line", "sent"),
    [
        ("X-Key: plain", b"plain"),
        ("X-Key: Zoë", "Zoë".encode()),
        ("X-Key: 令牌", "令牌".encode()),
        ("X-Key:\tä\tb ", "ä\tb".encode()),
        ("X-Key: a\x01", None),
        ("X-Key: a\nb", None),
        ("X-Key: a\x7f", None),
    ],
)
def test_text_of_a_dragonfly_client_is_sent_as_utf8(line: str, sent: bytes | None) -> None:
    values = {"rawurl": "http://o/f", "cid": "c", "ip": "10.0.0.1", "port": 80, "path": "/c", "headers": [line]}
    if sent is None:
        with pytest.raises(MalformedRequestError, match="characters"):
            wire.check_registration(values)
    else:
        assert [sent] == [headers.to_bytes(value) for value in wire.check_registration(values).headers.values()]


@given(values)
def test_every_value_survives_our_json(data: bytes) -> None:
    value = headers.of_bytes(data)
    for document in (
        Meta(TaskID("a" * 64), "g", 1, etag=value),
        CopyReport("t", Stage.READING, etag=value),
        SourceRequest("http://o/f", {"X-Key": value}),
        ManifestAnswer(challenges=(value,)),
    ):
        read = msgspec.json.decode(msgspec.json.encode(document), type=type(document))
        assert document == read
    assert data == headers.to_bytes(value)


@pytest.mark.parametrize("text", ["€", "\udcfc", "a\r\nb", "\0", "\x7f", "Ā"])
def test_other_text_is_not_a_value_and_is_not_quoted(text: str) -> None:
    assert not headers.is_valid(text)
    with pytest.raises(ValueError, match="header value") as caught:
        headers.to_bytes(text)
    assert text not in str(caught.value)


@pytest.mark.parametrize(("data", "text"), [("Zoë".encode(), "Zoë"), (b"f\xfcr", "für"), (b"plain", "plain")])
def test_a_reader_sees_utf8_or_else_latin1(data: bytes, text: str) -> None:
    assert text == headers.to_text(headers.of_bytes(data))


@pytest.mark.parametrize(("realm", "service"), [(b"f\xfcr", "f%C3%BCr"), ("für".encode(), "f%C3%BCr"), (b"x", "x")])
def test_a_challenge_may_have_any_bytes(realm: bytes, service: str) -> None:
    value = headers.of_bytes(b'Bearer realm="https://t/token",service="' + realm + b'"')
    (found,) = challenge.parse([value])
    assert f"service={service}&" in challenge.token_request(found, "a/b", plain_http=False).url
