"""Manifests and indexes are read, or refused with a reason."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_protocol.images import ImageBlob
from pantala_supernode.registry import manifest
from pantala_supernode.registry.errors import InvalidAnswerError, InvalidManifestError
from pantala_supernode.registry.manifest import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    ImageIndex,
    ImageManifest,
    ManifestDocument,
)
from pantala_supernode.registry.platform import Platform

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def descriptor(digest: str = A, size: Any = 7, **more: Any) -> dict[str, Any]:
    return {"mediaType": "x/y", "digest": digest, "size": size, **more}


def image(**more: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "config": descriptor(), "layers": [descriptor(B, 5), descriptor(B, 5)], **more}


def index(**more: Any) -> dict[str, Any]:
    listed = [descriptor(platform={"os": "linux", "architecture": "amd64"}), descriptor(B)]
    return {"schemaVersion": 2, "manifests": listed, **more}


@pytest.mark.parametrize("kind", [OCI_MANIFEST, DOCKER_MANIFEST])
def test_an_image_has_its_config_and_layers(kind: str) -> None:
    found = manifest.parse(f"{kind}; charset=utf-8", json.dumps(image(mediaType=kind)).encode())
    assert isinstance(found, ImageManifest)
    assert (kind, ImageBlob(A, 7), [ImageBlob(B, 5)] * 2) == (found.media_type, found.config, list(found.layers))
    assert [ImageBlob(A, 7), ImageBlob(B, 5)] == list(found.blobs)


@pytest.mark.parametrize("kind", [OCI_INDEX, DOCKER_LIST])
def test_an_index_has_its_manifests(kind: str) -> None:
    found = manifest.parse(kind, json.dumps(index()).encode())
    assert isinstance(found, ImageIndex)
    assert [(A, 7, Platform("linux", "amd64")), (B, 7, None)] == list(found.children)


@pytest.mark.parametrize("said", ["", "application/json", "application/octet-stream"])
def test_a_generic_content_type_leaves_the_kind_to_the_body(said: str) -> None:
    body = json.dumps(index(mediaType=OCI_INDEX)).encode()
    assert manifest.media_type(said, body) == OCI_INDEX


@pytest.mark.parametrize(
    ("said", "body"),
    [
        (OCI_MANIFEST, b""),
        (OCI_MANIFEST, b"<html>"),
        (OCI_MANIFEST, b"[]"),
        (OCI_MANIFEST, b"\xff\xfe"),
        (OCI_MANIFEST, b'{"schemaVersion": 2, "x": ' + b"[" * 100_000),
        (OCI_MANIFEST, b" " * (manifest.MAX_SIZE + 1)),
        (OCI_MANIFEST, image(schemaVersion=1)),
        (OCI_MANIFEST, image(mediaType=OCI_INDEX)),
        (OCI_MANIFEST, image(mediaType=DOCKER_MANIFEST)),
        (OCI_MANIFEST, image(manifests=[])),
        (OCI_MANIFEST, index()),
        (OCI_INDEX, image()),
        (OCI_INDEX, index(layers=[])),
        ("text/html", image()),
        ("", image()),
        (OCI_MANIFEST, {"schemaVersion": 2, "config": descriptor()}),
        (OCI_MANIFEST, {"schemaVersion": 2, "layers": []}),
        (OCI_MANIFEST, image(config=descriptor("md5:abc"))),
        (OCI_MANIFEST, image(config=descriptor(size=-1))),
        (OCI_MANIFEST, image(config=descriptor(size=1.5))),
        (OCI_MANIFEST, image(config=descriptor(size=1 << 60))),
        (OCI_MANIFEST, image(config=descriptor(size="7"))),
        (OCI_MANIFEST, image(layers=[descriptor(B, 5), descriptor(B, 6)])),
        (OCI_INDEX, index(manifests=[descriptor("sha256:" + "A" * 64)])),
    ],
)
def test_invalid_and_ambiguous_manifests_are_refused(said: str, body: bytes | dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^(is|has|lacks|does|gives) "):
        manifest.parse(said, body if isinstance(body, bytes) else json.dumps(body).encode())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["schemaVersion", "mediaType", "manifests", "config", "layers", "digest"]), inner
        )
    ),
    max_leaves=8,
)


@given(st.sampled_from([*manifest.MEDIA_TYPES, "", "x"]), json_values)
def test_any_document_is_read_or_refused(said: str, value: object) -> None:
    try:
        manifest.parse(said, json.dumps(value).encode())
    except ValueError:
        return


def test_a_document_must_have_the_expected_digest() -> None:
    body = json.dumps(image()).encode()
    found = ManifestDocument.checked(body, OCI_MANIFEST, None, "x")
    assert found == ManifestDocument.checked(body, OCI_MANIFEST, found.digest, "x")
    assert "schemaVersion" not in repr(found)
    with pytest.raises(InvalidManifestError, match="digest"):
        ManifestDocument.checked(body + b" ", OCI_MANIFEST, found.digest, "x")
    with pytest.raises(InvalidAnswerError, match="digest"):
        ManifestDocument.checked(body, OCI_MANIFEST, "md5:x", "x")
