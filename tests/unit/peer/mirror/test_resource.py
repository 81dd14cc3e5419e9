"""What a path asks for, and what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_peer.mirror.errors import MirrorError
from pantala_peer.mirror.resource import Base, Blob, Manifest, Repository, Resource, parse, probed_node

D = "sha256:" + "0" * 64
NS = "docker.io"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2", Base()),
        ("/v2/", Base()),
        (f"/v2/library/x/blobs/{D}", Blob(Repository(NS, "library/x"), D)),
        (f"/v2/library/x/blobs/{D.replace(':', '%3A')}", Blob(Repository(NS, "library/x"), D)),
        (f"/v2/x/manifests/{D}", Manifest(Repository(NS, "x"), D)),
        ("/v2/x/manifests/v1.0_a-b", Manifest(Repository(NS, "x"), "v1.0_a-b")),
        (f"/v2/a/manifests/b/blobs/{D}", Blob(Repository(NS, "a/manifests/b"), D)),
    ],
)
def test_paths_of_the_pull_api(path: str, expected: Resource) -> None:
    assert expected == parse(path, NS)


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "/v1/", "/v2/x", "/v2/x/blobs/", "/v2/x/blobs/latest", "/v2//manifests/a", "/v2/x/manifests/.a",
        f"/v2/../x/blobs/{D}", f"/v2/x%2f..%2fy/blobs/{D}", f"/v2/x/blobs/{D}/", f"/v2/x/blobs/{D}\n",
        f"/v2/x%00/blobs/{D}", f"/v2/x/blobs/{D}%0a", f"/v2/x%252f/blobs/{D}", "/v2/" + "a/" * 600 + f"blobs/{D}",
        "/v2/x/manifests/" + "a" * 129, "/v2/x/manifests/sha256:1", "/v2/é/manifests/a",
    ],
)  # fmt: skip
def test_what_is_none(path: str) -> None:
    with pytest.raises(MirrorError):
        parse(path, NS)


@pytest.mark.parametrize("registry", ["", "http://x", "a/b", "a b", "x:0", "x:99999", "[::g]", "user@x", "x?y"])
def test_a_registry_is_a_host(registry: str) -> None:
    with pytest.raises(MirrorError):
        parse("/v2/", registry)


@given(
    path=st.text(max_size=80)
    | st.builds("/v2/{}/{}/{}".format, st.text(), st.sampled_from(["blobs", "manifests"]), st.text())
)
def test_any_text_is_a_resource_or_a_miss(path: str) -> None:
    try:
        found = parse(path, NS)
    except MirrorError:
        return
    assert isinstance(found, Base | Manifest | Blob)
    if isinstance(found, Manifest | Blob):
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
