"""Registries use https unless the settings say otherwise."""

from pathlib import Path

import pytest

from pantala_process.settings import SettingsError
from pantala_supernode.registry.endpoint import ImageRepository, RegistryEndpoints, RegistrySettings
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
    assert {"two.example": Path("/ca")} == dict(listed.authorities)
    assert "https://two.example" == listed.base("two.example")
    with pytest.raises(RegistryDeniedError):
        listed.base("three.example")


@pytest.mark.parametrize(
    "wrong",
    [
        {"registries": "ftp://one.example"},
        {"registries": "://one.example"},
        {"registries": "http://one.example/path"},
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
