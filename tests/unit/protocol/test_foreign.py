"""A null member of another program's JSON is absent, wherever that JSON is read. Garbage is still refused."""

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_operator.plan.secrets import pull_secret
from pantala_operator.resources.api import Metadata, Secret
from pantala_operator.resources.status import Obstacle
from pantala_peer.mirror.manifests import ServedManifest
from pantala_protocol import digest as digests
from pantala_protocol.rules import foreign
from pantala_supernode.registry import challenge, manifest
from pantala_supernode.registry.credentials import Keyring
from pantala_supernode.registry.manifest import OCI_INDEX, OCI_MANIFEST

ALLOWED = {"pantala.dev/allow": "tasks"}

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
ANN = base64.b64encode(b"ann:secret").decode()
CONFIG = {"mediaType": "x/y", "digest": A, "size": 7}
AMD64 = {"os": "linux", "architecture": "amd64"}


class Letter(msgspec.Struct):
    text: str = "none"
    numbers: list[int] = []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("{}", Letter()),
        ('{"text": null, "numbers": null}', Letter()),
        ('{"text": "null"}', Letter("null")),
        ('{"other": null, "text": "x"}', Letter("x")),
        ('{"numbers": [1, null]}', None),
        ('{"text": 5, "other": null}', None),
        ("null", None),
        ("[null]", None),
        ("", None),
        ('{"text": nulls}', None),
        ('{"other": null, "text": "\\ud800"}', None),
        ('{"other": ' + "[" * 5000 + "null", None),
    ],
)
def test_null_is_absent_and_garbage_is_not(body: str, expected: Letter | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="not valid"):
            foreign.read(body.encode(), Letter)
    else:
        assert expected == foreign.read(body.encode(), Letter)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_no_member_is_null_at_any_depth(value: Any) -> None:
    def nulls(found: Any) -> bool:
        members = found.values() if isinstance(found, dict) else []
        inner = members if isinstance(found, dict) else found if isinstance(found, list) else []
        return any(member is None for member in members) or any(nulls(member) for member in inner)

    assert not nulls(foreign.drop_nulls(value))


def test_a_hostile_manifest_takes_little_time() -> None:
    """The supernode and the peer read it in their event loops."""
    many = b"{}," * 1_300_000
    body = b'{"schemaVersion": 2, "layers": null, "config": %b, "x": [%b{}]}' % (json.dumps(CONFIG).encode(), many)
    began = time.thread_time()
    assert [A] == [blob.digest for blob in manifest.parse(OCI_MANIFEST, body).blobs]  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="not valid"):
        foreign.read(b'{"text": null, "other": [%b{}]}' % many, Letter)
    assert time.thread_time() - began < 0.5


def supernode_secret(content: Any) -> object:
    return [account.basic for account in Keyring.read(json.dumps(content)).find("a.b/x")]


def operator_secret(content: Any) -> object:
    data = {".dockerconfigjson": base64.b64encode(json.dumps(content).encode()).decode()}
    found = pull_secret("s", Secret(Metadata("s", labels=ALLOWED), data))
    if isinstance(found, Obstacle):
        raise ValueError(found.message)  # noqa: TRY004 - the supernode raises it too
    assert isinstance(found, str)
    return supernode_secret(json.loads(found))


@pytest.mark.parametrize("read", [supernode_secret, operator_secret])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"auths": None}, []),
        ({"auths": None, "credsStore": "desktop"}, []),
        ({}, []),
        ({"auths": {"a.b": None}}, []),
        ({"auths": {"a.b": {"auth": ANN}, "c.d": None}}, [f"Basic {ANN}"]),
        ({"auths": {"a.b": {"auth": ANN, "identitytoken": None, "registrytoken": None}}}, [f"Basic {ANN}"]),
        ({"auths": {"a.b": {"auth": None, "username": "ann", "password": "secret"}}}, [f"Basic {ANN}"]),
        ({"auths": {"a.b": {"auth": None}}}, [""]),
        ({"auths": []}, None),
        ({"auths": "a.b"}, None),
        ({"auths": {"a.b": [None]}}, None),
        ({"auths": {"a.b": "ann:secret"}}, None),
        ({"auths": 0}, None),
        ([], None),
        (None, None),
    ],
)
def test_a_pull_secret(read: Callable[[Any], object], content: Any, expected: list[str] | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="pull secret"):
            read(content)
    else:
        assert expected == read(content)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"token": None, "access_token": "t"}, "t"),
        ({"token": "t", "access_token": None, "refresh_token": None}, "t"),
        ({"token": "t", "expires_in": None, "issued_at": None}, "t"),
        ({"token": "null"}, "null"),
        ({"token": None, "access_token": None}, None),
        ({"token": 5, "access_token": None}, None),
        ({"token": ["t"]}, None),
        ({}, None),
        (None, None),
    ],
)
def test_a_token_answer(content: Any, expected: str | None) -> None:
    body = json.dumps(content).encode()
    if expected is None:
        with pytest.raises(ValueError, match="did not send a valid token"):
            challenge.read_token(body)
    else:
        assert expected == challenge.read_token(body).value


def image(**more: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "config": CONFIG, **more}


def index(**platform: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "manifests": [{**CONFIG, "platform": {**AMD64, **platform}}]}


@pytest.mark.parametrize(
    ("kind", "content", "digests"),
    [
        (OCI_MANIFEST, image(), [A]),
        (OCI_MANIFEST, image(layers=None), [A]),
        (OCI_MANIFEST, image(layers=None, manifests=None, mediaType=None, annotations=None, subject=None), [A]),
        (OCI_MANIFEST, image(layers=[{**CONFIG, "digest": B, "urls": None, "platform": None}]), [A, B]),
        (OCI_INDEX, index(variant=None), ["linux/amd64"]),
        (OCI_INDEX, index(variant=None, **{"os.version": None, "os.features": None}), ["linux/amd64"]),
        (OCI_INDEX, {**index(), "config": None, "layers": None}, ["linux/amd64"]),
        (OCI_MANIFEST, image(layers="none"), None),
        (OCI_MANIFEST, image(layers=[None]), None),
        (OCI_MANIFEST, image(layers={}), None),
        (OCI_MANIFEST, {**image(layers=[CONFIG]), "config": None}, None),
        (OCI_MANIFEST, image(layers=[{**CONFIG, "size": None}]), None),
        (OCI_INDEX, index(variant=7), None),
        (OCI_INDEX, {"schemaVersion": 2, "manifests": None}, None),
        (OCI_INDEX, None, None),
    ],
)
def test_a_manifest(kind: str, content: Any, digests: list[str] | None) -> None:
    body = json.dumps(content).encode()
    if digests is None:
        with pytest.raises(ValueError, match=r"no config|fields of|JSON"):
            manifest.parse(kind, body)
        return
    found = manifest.parse(kind, body)
    if isinstance(found, manifest.ImageManifest):
        assert digests == [blob.digest for blob in found.blobs]
    else:
        assert digests == [str(child.platform) for child in found.children]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (image(layers=None), {A}),
        (image(layers=[{**CONFIG, "digest": B}], manifests=None), {A, B}),
        ({"manifests": [{**CONFIG, "digest": B, "platform": None}], "config": None}, {B}),
        (image(layers="none"), set()),
        (image(layers=[None]), set()),
    ],
)
def test_the_mirror_lets_a_client_read_what_a_manifest_names(content: Any, expected: set[str]) -> None:
    body = json.dumps(content).encode()
    running = digests.new("sha256")
    running.update(body)
    own = f"sha256:{running.hexdigest()}"
    assert expected | {own} == set(ServedManifest.check(own, OCI_MANIFEST, body).named())
