"""Paths and ranges of requests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_peer.mirror.errors import MirrorError
from pantala_peer.mirror.request import (
    BlobRequest,
    ByteRange,
    ManifestRequest,
    MirrorRequest,
    RepositoryName,
    UnsatisfiableError,
    parse_path,
    parse_range,
    probed_node,
)

D = "sha256:" + "0" * 64
NS = "docker.io"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2", None),
        ("/v2/", None),
        (f"/v2/library/x/blobs/{D}", BlobRequest(RepositoryName(NS, "library/x"), D)),
        (f"/v2/library/x/blobs/{D.replace(':', '%3A')}", BlobRequest(RepositoryName(NS, "library/x"), D)),
        (f"/v2/x/manifests/{D}", ManifestRequest(RepositoryName(NS, "x"), D)),
        ("/v2/x/manifests/v1.0_a-b", ManifestRequest(RepositoryName(NS, "x"), "v1.0_a-b")),
        (f"/v2/a/manifests/b/blobs/{D}", BlobRequest(RepositoryName(NS, "a/manifests/b"), D)),
    ],
)
def test_paths_of_the_pull_api(path: str, expected: MirrorRequest) -> None:
    assert expected == parse_path(path, NS)


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "/v1/", "/v2/x", "/v2/x/blobs/", "/v2/x/blobs/latest", "/v2//manifests/a", "/v2/x/manifests/.a",
        f"/v2/../x/blobs/{D}", f"/v2/x%2f..%2fy/blobs/{D}", f"/v2/x/blobs/{D}/", f"/v2/x/blobs/{D}\n",
        f"/v2/x%00/blobs/{D}", f"/v2/x/blobs/{D}%0a", f"/v2/x%252f/blobs/{D}", "/v2/" + "a/" * 600 + f"blobs/{D}",
        "/v2/x/manifests/" + "a" * 129, "/v2/x/manifests/sha256:1", "/v2/é/manifests/a",
        f"/v2/x/blobs/{D[:-1]}", f"/v2/x/blobs/md5:{'0' * 32}", f"/v2/X/blobs/{D}", "/v2/_catalog",
    ],
)  # fmt: skip
def test_other_paths_are_a_miss(path: str) -> None:
    with pytest.raises(MirrorError):
        parse_path(path, NS)


@pytest.mark.parametrize("registry", ["", "http://x", "a/b", "a b", "x:0", "x:99999", "[::g]", "user@x", "x?y"])
def test_a_registry_is_a_host(registry: str) -> None:
    with pytest.raises(MirrorError):
        parse_path("/v2/", registry)


@given(
    path=st.text(max_size=80)
    | st.builds("/v2/{}/{}/{}".format, st.text(), st.sampled_from(["blobs", "manifests"]), st.text())
)
def test_any_text_is_a_request_or_a_miss(path: str) -> None:
    try:
        found = parse_path(path, NS)
    except MirrorError:
        return
    assert found is None or isinstance(found, ManifestRequest | BlobRequest)
    if isinstance(found, ManifestRequest | BlobRequest):
        assert ".." not in found.repository.name.split("/")


@pytest.mark.parametrize(
    ("path", "node"),
    [
        ("/v2/probe/node-1/manifests/1", "node-1"),
        ("/v2/probe/node-1.example/manifests/1", "node-1.example"),
        ("/v2/probe/node-1/manifests/2", None),
        (f"/v2/probe/node-1/blobs/{D}", None),
        ("/v2/library/probe/manifests/1", None),
        ("/x", None),
    ],
)
def test_the_probe(path: str, node: str | None) -> None:
    assert node == probed_node(path)


# Ranges


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("", None),
        ("bytes=0-", ByteRange(0, 10)),
        ("bytes=3-5", ByteRange(3, 6)),
        ("Bytes = 3-5", ByteRange(3, 6)),
        ("bytes=3-99", ByteRange(3, 10)),
        ("bytes=-3", ByteRange(7, 10)),
        ("bytes=-99", ByteRange(0, 10)),
        *((f"bytes={invalid}", None) for invalid in ("5-3", "-", "0-1,3-4", "٣-", "+1-", "9" * 19 + "-")),
        ("items=0-1", None),
    ],
)
def test_range_headers(header: str | None, expected: ByteRange | None) -> None:
    assert expected == parse_range(header, 10)


@pytest.mark.parametrize(
    ("header", "length"), [("bytes=10-", 10), ("bytes=11-12", 10), ("bytes=-0", 10), ("bytes=0-", 0)]
)
def test_a_range_beyond_the_end_is_unsatisfiable(header: str, length: int) -> None:
    with pytest.raises(UnsatisfiableError):
        parse_range(header, length)


@given(
    header=st.from_regex(r"bytes=\d{0,4}-\d{0,4}", fullmatch=True) | st.text(max_size=30), length=st.integers(1, 3000)
)
def test_a_range_is_inside_and_not_empty(header: str, length: int) -> None:
    try:
        found = parse_range(header, length)
    except UnsatisfiableError:
        return
    assert found is None or 0 <= found.start < found.end <= length
