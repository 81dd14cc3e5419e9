"""The promises of a registry: a real one keeps them, and so does the fake of the supernode's tests."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from testbed import registry as testbed_registry
from testbed.image import Image, Layer, build, push
from testbed.registry import Registry
from tests.support.fake_registry import FakeRegistry, basic, sha256

ANN = ("ann", "ann's secret")
AUTHORIZED = {"Authorization": basic(*ANN)}
NOT_INSTALLED = pytest.mark.skipif(
    not testbed_registry.installed(), reason="docker-registry is not installed: apt-get install docker-registry"
)


@dataclass
class Subject:
    """A registry with one image, which only ann may read."""

    url: str
    image: Image
    session: aiohttp.ClientSession

    async def get(
        self, path: str, headers: Mapping[str, str] = AUTHORIZED, method: str = "GET"
    ) -> tuple[int, Mapping[str, str], bytes]:
        accept = {"Accept": "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"}
        url = f"{self.url}/v2/team/app/{path}"
        async with self.session.request(method, url, headers={**accept, **headers}) as answer:
            return answer.status, answer.headers, await answer.read()


@pytest.fixture(params=["fake", pytest.param("real", marks=NOT_INSTALLED)])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    image = build(tmp_path / "image", [Layer(100_000, seed=51)], platforms=["linux/amd64"])
    async with aiohttp.ClientSession() as session:
        if request.param == "real":
            with Registry(tmp_path / "registry", accounts=dict([ANN])) as real:
                push(image, real.host, "team/app", "1", account=ANN)
                yield Subject(real.url, image, session)
            return
        async with FakeRegistry() as fake:
            fake.accounts = dict([ANN])
            for digest in (image.digest, *image.manifests.values()):
                body = image.read(digest)
                fake.manifests[digest] = (json.loads(body)["mediaType"], body)
            fake.manifests["1"] = fake.manifests[image.digest]
            fake.blobs = {digest: image.read(digest) for digest in image.blobs}
            yield Subject(fake.url, image, session)


async def test_a_manifest_is_found_by_tag_and_digest(subject: Subject) -> None:
    manifest = subject.image.read(subject.image.digest)
    for target in ("1", subject.image.digest):
        for method in ("GET", "HEAD"):
            status, headers, body = await subject.get(f"manifests/{target}", method=method)
            assert (200, subject.image.digest) == (status, headers["Docker-Content-Digest"])
            assert json.loads(manifest)["mediaType"] == headers["Content-Type"].partition(";")[0]
            assert body == (manifest if method == "GET" else b"")


async def test_a_blob_is_sent_whole_or_by_its_range(subject: Subject) -> None:
    digest = max(subject.image.blobs, key=lambda digest: subject.image.blobs[digest])
    status, headers, body = await subject.get(f"blobs/{digest}")
    assert (200, digest) == (status, sha256(body))
    etag = {"If-Range": headers["ETag"]}
    for span, first, end in (("bytes=1000-", 1000, len(body)), ("bytes=5-1999", 5, 2000)):
        status, headers, part = await subject.get(f"blobs/{digest}", {**AUTHORIZED, **etag, "Range": span})
        assert (206, body[first:end]) == (status, part)
        assert f"bytes {first}-{end - 1}/{len(body)}" == headers["Content-Range"]


@pytest.mark.parametrize("path", ["manifests/2", f"manifests/sha256:{'0' * 64}", f"blobs/sha256:{'0' * 64}"])
async def test_missing_content_is_not_found(subject: Subject, path: str) -> None:
    status, _, body = await subject.get(path)
    assert 404 == status
    assert [True] == [bool(error["code"]) for error in json.loads(body)["errors"]]


@pytest.mark.parametrize("headers", [{}, {"Authorization": basic("ann", "wrong")}])
async def test_a_request_without_the_password_is_challenged(subject: Subject, headers: dict[str, str]) -> None:
    for path in ("manifests/1", f"blobs/{next(iter(subject.image.blobs))}"):
        status, answered, _ = await subject.get(path, headers)
        assert 401 == status
        assert "basic realm=" in answered["WWW-Authenticate"].lower()
