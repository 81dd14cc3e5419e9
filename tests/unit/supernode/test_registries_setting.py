"""The settings for registries."""

from pathlib import Path

import pytest

from pantala_process.settings import SettingsError
from pantala_supernode.registry.errors import RegistryDeniedError
from pantala_supernode.settings import Settings, parse


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
