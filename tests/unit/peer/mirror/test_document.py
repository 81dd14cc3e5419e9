"""A manifest is its digest, and names what may be served with it."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_peer.mirror import document
from pantala_peer.mirror.document import Document
from pantala_peer.mirror.errors import MirrorError
from pantala_peer.mirror.permissions import Reach

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")


def made(content: object) -> Document:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return document.check(f"sha256:{hashlib.sha256(body).hexdigest()}", "application/x", body)


def test_a_manifest_reaches_itself_its_config_and_its_layers() -> None:
    layers = [{"digest": B, "size": 2}, {"digest": C, "size": 3}]
    found = made({"schemaVersion": 2, "config": {"digest": A, "size": 1}, "layers": layers})
    reached = {found.digest: Reach(len(found.body)), A: Reach(1, is_config=True), B: Reach(2), C: Reach(3)}
    assert reached == document.reached(found)


def test_an_index_reaches_its_manifests() -> None:
    found = made({"manifests": [{"digest": A, "size": 1, "platform": {"os": "linux"}}]})
    assert {found.digest: Reach(len(found.body)), A: Reach(1)} == document.reached(found)


@given(st.binary(max_size=100) | st.just(b'{"layers": [{"digest": 1}]}') | st.just(b'{"layers":' + b"[" * 5000))
def test_what_cannot_be_read_reaches_itself_alone(body: bytes) -> None:
    found = made(body)
    assert {found.digest: Reach(len(body))} == document.reached(found)


@pytest.mark.parametrize(
    ("digest", "media_type", "body"),
    [
        (A, "application/x", b"other"),
        ("md5:" + "0" * 32, "application/x", b""),
        ("", "application/x", b""),
        ("sha256:" + hashlib.sha256(b"").hexdigest(), "a/b\r\nX: y", b""),
        ("sha256:" + hashlib.sha256(b"").hexdigest(), "", b""),
    ],
)
def test_what_is_not_what_it_says_is_not_passed_on(digest: str, media_type: str, body: bytes) -> None:
    with pytest.raises(MirrorError):
        document.check(digest, media_type, body)
