"""Manifests and indexes are read, or refused with a reason, and a platform is chosen."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_protocol.images import ImageBlob
from pantala_supernode.registry import manifest, platform
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

SIGNED_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
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
    assert [(A, 7, Platform("linux", "amd64"), False), (B, 7, None, False)] == list(found.children)


@pytest.mark.parametrize(
    ("said", "body", "expected"),
    [
        (OCI_MANIFEST, image(mediaType=DOCKER_MANIFEST), OCI_MANIFEST),
        (DOCKER_MANIFEST, image(mediaType=OCI_MANIFEST), DOCKER_MANIFEST),
        (OCI_INDEX, index(mediaType=DOCKER_LIST), OCI_INDEX),
        (DOCKER_LIST, index(mediaType=OCI_INDEX), DOCKER_LIST),
        (f"{OCI_INDEX};charset=utf-8", index(), OCI_INDEX),
        (OCI_MANIFEST.upper(), image(), OCI_MANIFEST),
        (OCI_MANIFEST, image(mediaType="application/json"), OCI_MANIFEST),
        (DOCKER_LIST, index(mediaType=None), DOCKER_LIST),
        ("", image(), OCI_MANIFEST),
        ("text/plain; charset=utf-8", index(), OCI_INDEX),
        ("application/json", image(mediaType=DOCKER_MANIFEST), DOCKER_MANIFEST),
        ("binary/octet-stream", image(), OCI_MANIFEST),
        (OCI_MANIFEST, image(schemaVersion=None), OCI_MANIFEST),
        (DOCKER_LIST, {"manifests": []}, DOCKER_LIST),
        ("text/html; charset=utf-8", image(mediaType=OCI_MANIFEST), OCI_MANIFEST),
        (SIGNED_SCHEMA_1, image(mediaType=DOCKER_MANIFEST), DOCKER_MANIFEST),
        (SIGNED_SCHEMA_1, index(mediaType=DOCKER_LIST), DOCKER_LIST),
    ],
)
def test_oci_and_docker_may_differ_between_header_and_body(said: str, body: dict[str, Any], expected: str) -> None:
    assert expected == manifest.parse(said, json.dumps(body).encode()).media_type


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"architecture": "amd64"}, Platform("linux", "amd64")),
        ({"os": None, "architecture": "arm64"}, Platform("linux", "arm64")),
        ({"os": "windows", "architecture": "amd64"}, Platform("windows", "amd64")),
        ({"os": "unknown", "architecture": "unknown"}, Platform("unknown", "unknown")),
        ({}, Platform("linux", "")),
        (None, None),
    ],
)
def test_an_entry_without_a_system_is_for_linux(given: dict[str, Any] | None, expected: Platform | None) -> None:
    found = manifest.parse(OCI_INDEX, json.dumps(index(manifests=[descriptor(platform=given)])).encode())
    assert isinstance(found, ImageIndex)
    assert [expected] == [child.platform for child in found.children]


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
        (OCI_MANIFEST, image(schemaVersion=0)),
        (OCI_MANIFEST, {"name": "a", "fsLayers": []}),
        (OCI_MANIFEST, image(mediaType=OCI_INDEX)),
        (OCI_MANIFEST, image(mediaType=DOCKER_LIST)),
        (DOCKER_MANIFEST, image(mediaType=DOCKER_LIST)),
        (OCI_INDEX, index(mediaType=OCI_MANIFEST)),
        ("", image(mediaType=OCI_INDEX)),
        ("application/json", index(mediaType=DOCKER_MANIFEST)),
        ("application/json", image(mediaType="text/html")),
        (SIGNED_SCHEMA_1, image()),
        (SIGNED_SCHEMA_1, image(mediaType=OCI_INDEX)),
        (OCI_MANIFEST, image(manifests=[])),
        (OCI_MANIFEST, index()),
        (OCI_INDEX, image()),
        (OCI_INDEX, index(layers=[])),
        ("text/html", image()),
        ("", {"schemaVersion": 2}),
        (OCI_MANIFEST, {"schemaVersion": 2, "layers": []}),
        (OCI_MANIFEST, image(config=descriptor("md5:abc"))),
        (OCI_MANIFEST, image(config=descriptor(size=-1))),
        (OCI_MANIFEST, image(config=descriptor(size=1.5))),
        (OCI_MANIFEST, image(config=descriptor(size=1 << 60))),
        (OCI_MANIFEST, image(config=descriptor(size="7"))),
        (OCI_MANIFEST, image(layers=[descriptor(B, 5), descriptor(B, 6)])),
        (OCI_INDEX, index(manifests=[descriptor("sha256:" + "A" * 64)])),
        (OCI_INDEX, index(manifests=[descriptor(A, 5)] * 1001)),
        (OCI_MANIFEST, image(layers=[descriptor(B, 5)] * 1001)),
    ],
)
def test_invalid_and_ambiguous_manifests_are_refused(said: str, body: bytes | dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^(is|has|contains|does|gives|lists) "):
        manifest.parse(said, body if isinstance(body, bytes) else json.dumps(body).encode())


def test_a_document_must_have_the_expected_digest() -> None:
    body = json.dumps(image()).encode()
    found = ManifestDocument.checked(body, OCI_MANIFEST, None, "x")
    assert found == ManifestDocument.checked(body, OCI_MANIFEST, found.digest, "x")
    assert "schemaVersion" not in repr(found)
    with pytest.raises(InvalidManifestError, match="digest"):
        ManifestDocument.checked(body + b" ", OCI_MANIFEST, found.digest, "x")
    with pytest.raises(InvalidAnswerError, match="digest"):
        ManifestDocument.checked(body, OCI_MANIFEST, "md5:x", "x")


platforms = st.builds(
    platform.normal,
    st.sampled_from(["linux", "windows"]),
    st.sampled_from(["amd64", "386", "arm", "arm64", "s390x"]),
    st.sampled_from(["", "v1", "v2", "v3", "v5", "v6", "v7", "v8", "v8.2", "v9", "v9.1"]),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", "linux/amd64"),
        ("Linux/x86_64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/i386/v1", "linux/386"),
    ],
)
def test_a_platform_has_one_spelling(text: str, expected: str) -> None:
    assert expected == str(platform.parse(text))


@pytest.mark.parametrize("text", ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/amd 64", "linux/" + "x" * 33])
def test_an_invalid_platform_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="platform"):
        platform.parse(text)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("linux/amd64", "linux/amd64 linux/386"),
        ("linux/amd64/v3", "linux/amd64/v3 linux/amd64/v2 linux/amd64 linux/386"),
        ("linux/arm/v7", "linux/arm/v7 linux/arm/v6 linux/arm/v5"),
        ("linux/arm64", "linux/arm64 linux/arm/v8 linux/arm/v7 linux/arm/v6 linux/arm/v5"),
        (
            "linux/arm64/v9",
            " ".join(f"linux/arm64/{variant}" for variant in ("v9", "v8.5", "v8.4", "v8.3", "v8.2", "v8.1"))
            + " linux/arm64 linux/arm/v8 linux/arm/v7 linux/arm/v6 linux/arm/v5",
        ),
        ("linux/s390x", "linux/s390x"),
    ],
)
def test_platforms_are_ordered_as_in_containerd(wanted: str, expected: str) -> None:
    assert expected == " ".join(map(str, platform.acceptable(platform.parse(wanted))))


def test_the_best_image_wins_then_the_first_entry() -> None:
    offered = [
        (Platform("linux", "386"), "worse"),
        (Platform("linux", "amd64"), "a"),
        (Platform("linux", "amd64"), "b"),
    ]
    assert platform.choose(Platform("linux", "amd64"), offered) == "a"


def test_an_image_without_a_platform_is_the_last_choice() -> None:
    amd64 = Platform("linux", "amd64")
    assert platform.choose(amd64, [(None, "any"), (Platform("linux", "386"), "old")]) == "old"
    assert platform.choose(amd64, [(Platform("unknown", "unknown"), "attestation"), (None, "any")]) == "any"
    assert platform.choose(amd64, [(Platform("unknown", "unknown"), "attestation")]) is None


@given(platforms, st.lists(st.tuples(platforms, st.integers())))
def test_the_chosen_image_is_the_best_one_that_runs(wanted: Platform, offered: list[tuple[Platform, int]]) -> None:
    order = platform.acceptable(wanted)
    found = platform.choose(wanted, ((given, (given, number)) for given, number in offered))
    fitting = [order.index(given) for given, _ in offered if given in order]
    assert (min(fitting) if fitting else None) == (None if found is None else order.index(found[0]))
    assert len(order) == len(set(order))
