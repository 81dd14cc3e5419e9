"""Names of images, and the owner of a task."""

import hashlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_protocol import image
from pantala_protocol.image import ImageReference
from pantala_protocol.statement import Member, Membership, owner_among

SHA256 = "sha256:" + "a1" * 32
SHA512 = "sha512:" + "0f" * 64

component = st.from_regex(r"[a-z0-9]{1,6}((\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}", fullmatch=True)
repositories = st.lists(component, min_size=1, max_size=4).map("/".join)
hosts = st.sampled_from(["localhost", "a.b", "registry.example.com", "10.0.0.1", "[::1]", "[2001:db8::5]", "Host"])
ports = st.one_of(st.just(""), st.integers(1, 65535).map(":{}".format))
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
digests = st.sampled_from([SHA256, SHA512])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("bitnami/redis", "docker.io/bitnami/redis:latest"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/nginx:1", "docker.io/library/nginx:1"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
        ("registry:5000/x:y", "registry:5000/x:y"),
        ("registry/x", "docker.io/registry/x:latest"),
        ("Registry/x", "Registry/x:latest"),
        ("registry.k8s.io/sig-storage/csi:v1", "registry.k8s.io/sig-storage/csi:v1"),
        ("10.78.0.1:5078/pantala-peer:dev", "10.78.0.1:5078/pantala-peer:dev"),
        ("[fd00::1]:5000/a/b:c", "[fd00::1]:5000/a/b:c"),
        ("[::1]/a", "[::1]/a:latest"),
        (f"nginx@{SHA256}", f"docker.io/library/nginx@{SHA256}"),
        (f"nginx:1.27@{SHA256}", f"docker.io/library/nginx@{SHA256}"),
        (f"quay.io/a/b__c-d---e.f@{SHA512}", f"quay.io/a/b__c-d---e.f@{SHA512}"),
    ],
)
def test_every_spelling_has_one_canonical_form(text: str, expected: str) -> None:
    assert expected == str(image.parse(text))


@pytest.mark.parametrize(
    "text",
    [
        "", " nginx", "nginx\n", "nginx:", "nginx:-x", "nginx:" + "x" * 129, "Nginx", "docker.io/Nginx", "a//b", "/a",
        "a/", "a/-b", "a___b", "a..b", "a:b:c", "http://a.b/c", "https://a.b/c", "a.b:0/c", "a.b:65536/c", "a.b:/c",
        "-a.b/c", "a_b.c/d", "user:secret@a.b/c", "[::1/c", "[::g]/c", "[1:2]/c", "[fe80::1%eth0]/c", "nginx@",
        "nginx@sha256:abc", "nginx@sha256:" + "A1" * 32, "nginx@md5:" + "a1" * 16, f"nginx@{SHA256}@{SHA256}",
        "a1" * 32, "x/" + "y" * 256, "a.b/nginx:1\u0665", "a.b/..", "a.b/%2e%2e/c", "a.b/c?x", "a.b/c#x",
    ],
)  # fmt: skip
def test_a_text_that_is_not_a_reference_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a valid (registry|repository|tag|digest)|the ID of an image"):
        image.parse(text)


@given(hosts, ports, repositories, tags)
def test_a_tag_is_read_as_it_was_written(host: str, port: str, repository: str, tag: str) -> None:
    read = image.parse(f"{host}{port}/{repository}:{tag}")
    assert ImageReference(f"{host}{port}", repository, tag=tag) == read
    assert read == image.parse(str(read))


@given(hosts, repositories, digests, st.one_of(st.just(""), tags.map(":{}".format)))
def test_a_tag_beside_a_digest_is_ignored(host: str, repository: str, digest: str, tag: str) -> None:
    read = image.parse(f"{host}/{repository}{tag}@{digest}")
    assert ImageReference(host, repository, digest=digest) == read
    assert (read, digest) == (image.parse(str(read)), read.target)


@given(st.text(alphabet="abAB019.:/@-_[]%? \n\u00e9", max_size=40))
def test_any_text_is_read_or_rejected(text: str) -> None:
    try:
        read = image.parse(text)
    except ValueError:
        return
    assert read == image.parse(str(read))
    assert not set(str(read)) & set("%? \n\u00e9")


def test_a_pinned_image_has_the_digest_and_the_name() -> None:
    tagged = image.parse("nginx:1.27")
    assert image.parse(f"nginx@{SHA256}") == tagged.pinned(SHA256)
    with pytest.raises(ValueError, match="digest"):
        tagged.pinned("latest")


@pytest.mark.parametrize(
    ("registry", "expected"), [("docker.io", "registry-1.docker.io"), ("Ghcr.io", "ghcr.io"), ("a:5000", "a:5000")]
)
def test_the_endpoint_of_a_registry_is_a_host(registry: str, expected: str) -> None:
    assert expected == image.endpoint(registry)


NAMES = st.sets(st.text("abc-0123", min_size=1, max_size=8), min_size=1, max_size=6)
TASKS = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(600)]


def test_the_shares_are_even() -> None:
    shares = Counter(owner_among(task, ["supernode-0", "supernode-1", "supernode-2"]) for task in TASKS)
    assert {"supernode-0", "supernode-1", "supernode-2"} == set(shares)
    assert 150 < min(shares.values())


@given(NAMES, st.sampled_from(TASKS), st.randoms(use_true_random=False))
def test_the_order_of_names_does_not_matter(names: set[str], task: str, random: object) -> None:
    shuffled = sorted(names)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert owner_among(task, sorted(names)) == owner_among(task, shuffled)


@given(NAMES, st.text("xyz", min_size=1), st.sampled_from(TASKS))
def test_one_more_takes_tasks_only_for_itself(names: set[str], new: str, task: str) -> None:
    assert owner_among(task, names | {new}) in (owner_among(task, names), new)


def test_a_leaving_member_is_known_and_owns_nothing() -> None:
    staying, leaving = Member("a", "http://a"), Member("b", "http://b", leaving=True)
    membership = Membership(1, (staying, leaving))
    assert {staying} == {membership.owner(task) for task in TASKS}
    assert leaving == membership.member("b")
    assert Membership(1, (leaving,)).owner(TASKS[0]) is None
    assert owner_among(TASKS[0], ()) is None
