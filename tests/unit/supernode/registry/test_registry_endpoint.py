"""Registries use https unless the settings say otherwise."""

from pathlib import Path

import pytest

from pantala_process.settings import SettingsError
from pantala_protocol.image import ImageRepository
from pantala_supernode.registry.endpoint import (
    RegistryEndpoint,
    RegistryEndpoints,
    RegistrySettings,
    RepositoryLocation,
)
from pantala_supernode.registry.errors import RegistryDeniedError
from pantala_supernode.settings import Settings, parse

DIGEST = "sha256:" + "a" * 64
ENDPOINTS = RegistryEndpoints(
    {"Plain.example:5000": RegistrySettings(plain_http=True), "own.ca": RegistrySettings(ca=Path("x"))}
)


@pytest.mark.parametrize(
    ("registry", "expected"),
    [
        ("docker.io", "https://registry-1.docker.io"),
        ("ghcr.io", "https://ghcr.io"),
        ("plain.example:5000", "http://plain.example:5000"),
        ("plain.example", "https://plain.example"),
        ("10.0.0.1:5000", "https://10.0.0.1:5000"),
        ("localhost:5000", "http://localhost:5000"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("[fd00::1]:5000", "https://[fd00::1]:5000"),
        ("localhost.evil.example", "https://localhost.evil.example"),
    ],
)
def test_plain_http_is_used_only_if_listed_or_local(registry: str, expected: str) -> None:
    assert expected == ENDPOINTS.base(registry)


@pytest.mark.parametrize("registry", ["docker.io", "plain.example:5000", "[::1]:5000", "a.b"])
def test_a_blobs_url_names_its_repository(registry: str) -> None:
    repository = ImageRepository(registry, "library/app")
    assert repository == ENDPOINTS.repository_of(ENDPOINTS.blob(repository, DIGEST))


@pytest.mark.parametrize(
    "url",
    [
        f"https://plain.example:5000/v2/app/blobs/{DIGEST}",
        f"http://a.b/v2/app/blobs/{DIGEST}",
        f"https://user:x@a.b/v2/app/blobs/{DIGEST}",
        f"https://a.b/v2/app/blobs/{DIGEST}?x=y",
        f"https://a.b/v2/app/blobs/{DIGEST}#x",
        f"https://a.b/v2/App/blobs/{DIGEST}",
        f"https://a.b/v2/../app/blobs/{DIGEST}",
        "https://a.b/v2/app/blobs/sha256:abc",
        f"https://a.b/v2/app/manifests/{DIGEST}",
        f"https://a.b/x/v2/app/blobs/{DIGEST}",
        "https://a.b/file",
        "",
    ],
)
def test_other_urls_have_no_repository(url: str) -> None:
    assert ENDPOINTS.repository_of(url) is None


def test_a_list_forbids_all_other_registries() -> None:
    some = RegistryEndpoints(only=["ghcr.io"])
    assert some.base("ghcr.io") == "https://ghcr.io"
    with pytest.raises(RegistryDeniedError, match=r"a\.b"):
        some.base("a.b")
    assert some.repository_of(f"https://a.b/v2/app/blobs/{DIGEST}") is None


def test_a_blobs_url_needs_a_digest() -> None:
    with pytest.raises(ValueError, match="digest"):
        ENDPOINTS.blob(ImageRepository("a.b", "x"), "latest")


def settings(**variables: str) -> Settings:
    return parse(["--data", "/d"], {f"PANTALA_{name.upper()}": text for name, text in variables.items()})


def test_without_a_list_every_registry_uses_tls() -> None:
    found = settings()
    assert "https://registry.example" == found.registries.base("registry.example")
    assert 21600.0 == found.blob_seconds


def test_a_urls_scheme_decides_about_tls() -> None:
    listed = settings(registries="docker.io, http://plain.example:5000,https://tls.example/").registries
    assert "http://plain.example:5000" == listed.base("plain.example:5000")
    assert "https://tls.example" == listed.base("tls.example")
    assert "https://registry-1.docker.io" == listed.base("docker.io")
    assert "https://other.example" == listed.base("other.example")


def test_other_registries_can_be_forbidden() -> None:
    listed = settings(registries="one.example", registry_ca="two.example=/ca", registries_only="yes").registries
    assert {Path("/ca")} == listed.authorities
    assert "https://two.example" == listed.base("two.example")
    with pytest.raises(RegistryDeniedError):
        listed.base("three.example")


@pytest.mark.parametrize(
    "wrong",
    [
        {"registries": "ftp://one.example"},
        {"registries": "://one.example"},
        {"registries": "http://one.example/path"},
        {"registries": "one.example="},
        {"registries": "one.example=two.example"},
        {"registries": "one.example=ftp://two.example"},
        {"registries": "one.example=https://user:secret@two.example"},
        {"registries": "one.example=https://two.example/v2?x=y"},
        {"registries": "one.example=https://two.example/v2#x"},
        {"registries": "one.example=https://two.example/v2/../x"},
        {"registries": "one.example=https://two.example//x"},
        {"registries": "one.example=https://two.example/%2e%2e/x"},
        {"registries": "one.example=https://two.example:99999/x"},
        {"registries": "https://one.example=https://two.example"},
        {"registries": "one.example=http://two.example", "registry_ca": "two.example=/ca"},
        {"registry_ca": "one.example"},
        {"registry_ca": "one.example="},
        {"registries": "http://one.example", "registry_ca": "one.example=/ca"},
        {"registries_only": "yes"},
        {"registries_only": "maybe"},
        {"blob_seconds": "-1"},
    ],
)
def test_invalid_settings_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="--"):
        settings(**wrong)


def locations(registries: str, image: str, **more: str) -> list[str]:
    registry, _, name = image.partition("/")
    found = settings(registries=registries, **more).registries.locations(ImageRepository(registry, name))
    return [location.manifest("1") for location in found]


@pytest.mark.parametrize(
    ("registries", "image", "expected"),
    [
        ("", "docker.io/library/nginx", ["https://registry-1.docker.io/v2/library/nginx/manifests/1"]),
        ("docker.io=https://harbor.corp/v2/dockerhub", "docker.io/library/nginx",
         ["https://harbor.corp/v2/dockerhub/library/nginx/manifests/1"]),
        ("docker.io=https://mirror.corp", "docker.io/x/y", ["https://mirror.corp/v2/x/y/manifests/1"]),
        ("docker.io=https://mirror.corp/", "docker.io/x/y", ["https://mirror.corp/v2/x/y/manifests/1"]),
        ("docker.io=https://mirror.corp/v2/", "docker.io/x/y", ["https://mirror.corp/v2/x/y/manifests/1"]),
        ("ghcr.io=https://art.corp/api/docker/ghcr/v2", "ghcr.io/a",
         ["https://art.corp/api/docker/ghcr/v2/a/manifests/1"]),
        ("localhost:5001=http://registry.kind:5000", "localhost:5001/a", ["http://registry.kind:5000/v2/a/manifests/1"]),
        ("localhost:5001, localhost:5001=http://kind:5000", "localhost:5001/a", ["http://kind:5000/v2/a/manifests/1"]),
        ("a.b=https://one,a.b=http://[fd00::1]:5000", "a.b/x", ["https://one/v2/x/manifests/1", "http://[fd00::1]:5000/v2/x/manifests/1"]),
        ("Docker.IO=https://Mirror.Corp/v2/Hub", "docker.io/x", ["https://mirror.corp/v2/Hub/x/manifests/1"]),
        ("docker.io=https://mirror.corp", "ghcr.io/x", ["https://ghcr.io/v2/x/manifests/1"]),
    ],
)  # fmt: skip
def test_a_mapped_registry_is_reached_at_its_endpoints(registries: str, image: str, expected: list[str]) -> None:
    assert expected == locations(registries, image)


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        ("https://harbor.corp/v2/dockerhub", "dockerhub/library/nginx"),
        ("https://harbor.corp/v2", "library/nginx"),
        ("https://harbor.corp/v2/a/b", "a/b/library/nginx"),
        ("https://art.corp/artifactory/api/docker/hub/v2", "library/nginx"),
        ("https://art.corp/api/v2/hub", "hub/library/nginx"),
        ("https://art.corp/dockerhub", "library/nginx"),
        ("https://v2/v2/x", "x/library/nginx"),
        ("http://[::1]:5000/v2", "library/nginx"),
    ],
)
def test_a_token_is_for_the_path_behind_the_endpoint(root: str, expected: str) -> None:
    place = RepositoryLocation(ImageRepository("docker.io", "library/nginx"), RegistryEndpoint(root))
    assert expected == place.name


def test_a_blob_has_one_name_at_all_endpoints() -> None:
    plain, mapped = (
        settings().registries,
        settings(registries="docker.io=https://a/v2/b,docker.io=https://c").registries,
    )
    hub = ImageRepository("docker.io", "library/nginx")
    assert plain.blob(hub, DIGEST) == mapped.blob(hub, DIGEST)
    assert hub == mapped.repository_of(mapped.blob(hub, DIGEST))
    assert mapped.repository_of(f"https://a/v2/b/library/nginx/blobs/{DIGEST}") != hub


def test_an_authority_counts_for_the_host_of_an_endpoint() -> None:
    found = settings(
        registries="docker.io=https://harbor.corp/v2/hub,docker.io=https://other.corp",
        registry_ca="harbor.corp=/ca",
        registries_only="yes",
    ).registries
    assert [Path("/ca"), None] == [each.endpoint.ca for each in found.locations(ImageRepository("docker.io", "x"))]
    assert {Path("/ca")} == found.authorities
    with pytest.raises(RegistryDeniedError):
        found.locations(ImageRepository("harbor.corp", "x"))


def test_the_variables_of_a_cloud_are_taken_and_not_shown() -> None:
    clouds = {"AWS_ROLE_ARN": "arn:x", "AZURE_CLIENT_ID": "y", "GOOGLE_APPLICATION_CREDENTIALS": "/z"}
    found = parse(["--data", "/d"], {**clouds, "OTHER": "no"})
    assert clouds == found.cloud
    assert "arn:x" not in repr(found)
