"""Requests to the mirror, permissions of clients, the readers of a blob, and the breaker of a slow repository."""

import itertools
import random
from contextlib import AbstractContextManager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_peer.mirror.deadlines import OPEN_SECONDS, RepositoryBreaker
from pantala_peer.mirror.demand import BlobDemand, BlobOrigin
from pantala_peer.mirror.errors import MirrorError
from pantala_peer.mirror.grants import PullGrants, is_ours
from pantala_peer.mirror.request import (
    BlobRequest,
    ByteRange,
    ManifestRequest,
    MirrorRequest,
    UnsatisfiableError,
    parse_path,
    parse_range,
    probed_node,
)
from pantala_peer.tasks.room import BlobRoom
from pantala_protocol import task_id
from pantala_protocol.image import ImageRepository
from pantala_protocol.sync import WantedBlob

D = "sha256:" + "0" * 64
NS = "docker.io"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2", None),
        ("/v2/", None),
        (f"/v2/library/x/blobs/{D}", BlobRequest(ImageRepository(NS, "library/x"), D)),
        (f"/v2/library/x/blobs/{D.replace(':', '%3A')}", BlobRequest(ImageRepository(NS, "library/x"), D)),
        (f"/v2/x/manifests/{D}", ManifestRequest(ImageRepository(NS, "x"), D)),
        ("/v2/x/manifests/v1.0_a-b", ManifestRequest(ImageRepository(NS, "x"), "v1.0_a-b")),
        (f"/v2/a/manifests/b/blobs/{D}", BlobRequest(ImageRepository(NS, "a/manifests/b"), D)),
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


# Pulls by order


def new_grants() -> PullGrants:
    numbers = itertools.count(1)
    return PullGrants(lambda: f"password-{next(numbers)}")


def test_a_password_is_valid_for_its_repository_while_the_pull_runs() -> None:
    grants = new_grants()
    assert not grants.awaits("r/a")
    with grants.open("ns/a", "r/a") as grant, grants.open("ns/b", "r/a") as other:
        assert grants.awaits("r/a")
        assert not grants.awaits("r/b")
        assert grant is grants.find("r/a", grant.authorization)
        assert other is grants.find("r/a", other.authorization)
        assert grants.find("r/b", grant.authorization) is None
        assert grants.find("r/a", "") is None
    assert not grants.awaits("r/a")
    assert grants.find("r/a", grant.authorization) is None
    assert "password" not in f"{grant!r}"
    assert is_ours(grant.authorization)
    assert not any(map(is_ours, ("", "Bearer x", "Basic !", "Basic YW5uOng=", "Basic cGFudGFsYQ==")))


def test_the_breaker_is_open_for_its_repository_and_time_only() -> None:
    breaker = RepositoryBreaker()
    assert not breaker.is_open("a", 0.0)
    breaker.trip("a", 100.0)
    assert breaker.is_open("a", 100.0)
    assert breaker.is_open("a", 100.0 + OPEN_SECONDS - 0.1)
    assert not breaker.is_open("b", 100.0)
    assert not breaker.is_open("a", 100.0 + OPEN_SECONDS)
    for number in range(1000):
        breaker.trip(str(number), number * OPEN_SECONDS)
    assert len(breaker._until) < 3


NAME = task_id.of_blob(D)


class Reports(dict[str, WantedBlob]):
    def report(self, name: str, wanted: WantedBlob | None) -> None:
        if wanted is None:
            del self[name]
        else:
            self[name] = wanted


def origin(authorization: str = "", repository: str = "a") -> BlobOrigin:
    return BlobOrigin(ImageRepository("r", repository), 9, authorization)


def test_readers_of_one_blob_share_one_demand() -> None:
    reports = Reports()
    demand = BlobDemand(BlobRoom(), reports.report)
    with demand.reader(D, origin("old"), 500) as first:
        assert WantedBlob("r", "a", D, 500, credential="old") == reports[NAME]
        with demand.reader(D, origin("new"), 100) as second:
            assert WantedBlob("r", "a", D, 100, credential="new") == reports[NAME]
            second.waits_at(700)
            assert 500 == reports[NAME].position
            first.stalled()
            assert 1 == reports[NAME].stalls
        assert WantedBlob("r", "a", D, 500, 1, "old") == reports[NAME]
        first.waits_at(600)
        assert WantedBlob("r", "a", D, 600, 0, "old") == reports[NAME], "the stall was of another byte"
    assert {} == reports


def test_an_order_counts_before_the_credentials_of_a_client() -> None:
    reports = Reports()
    demand = BlobDemand(BlobRoom(), reports.report)
    ordered = BlobOrigin(ImageRepository("r", "b"), 9, "Basic never", order="ns/b")
    with demand.reader(D, ordered, 0), demand.reader(D, origin("new"), 0):
        assert WantedBlob("r", "b", D, order="ns/b") == reports[NAME]


def test_the_last_reader_ends_the_demand() -> None:
    rng = random.Random(1)
    reports = Reports()
    demand = BlobDemand(BlobRoom(), reports.report)
    readers: list[AbstractContextManager[object]] = []
    for _ in range(200):
        if readers and rng.random() < 0.5:
            readers.pop(rng.randrange(len(readers))).__exit__(None, None, None)
        else:
            readers.append(demand.reader(D, origin(), 0))
            readers[-1].__enter__()
        assert bool(readers) is (NAME in reports)


def test_a_secret_is_not_shown() -> None:
    shown = WantedBlob("r", "a", D, credential="Basic c2VjcmV0")
    assert "c2VjcmV0" not in f"{shown!r} {shown} {shown.__rich_repr__()} {origin('Basic c2VjcmV0')!r}"
