"""Registries as containerd names them."""

import pytest

from pantala_peer.containerd.registry import Registry, parse
from pantala_process.settings import SettingsError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("docker.io", Registry("docker.io", "https://registry-1.docker.io")),
        ("index.docker.io", Registry("docker.io", "https://registry-1.docker.io")),
        ("registry.example.com", Registry("registry.example.com", "https://registry.example.com")),
        ("r.example:5000", Registry("r.example:5000", "https://r.example:5000")),
        ("localhost:5000", Registry("localhost:5000", "http://localhost:5000")),
        ("127.0.0.1:5000", Registry("127.0.0.1:5000", "http://127.0.0.1:5000")),
        ("http://10.0.0.5:5000", Registry("10.0.0.5:5000", "http://10.0.0.5:5000")),
        ("https://localhost:5000/", Registry("localhost:5000", "https://localhost:5000")),
        ("[fd00::1]:5000", Registry("[fd00::1]:5000", "https://[fd00::1]:5000")),
    ],
)
def test_a_name_or_a_url(text: str, expected: Registry) -> None:
    assert expected == parse(text)


def test_containerd_looks_for_the_port_between_underscores_first() -> None:
    assert ("r.example_5000_", "r.example:5000") == parse("r.example:5000").directories
    assert ("[fd00::1]_5000_", "[fd00::1]:5000") == parse("[fd00::1]:5000").directories
    assert ("r.example",) == parse("r.example").directories
    assert ("[fd00::1]",) == parse("[fd00::1]").directories


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "_default",
        "a/b",
        "ftp://a",
        "http://",
        "http://u:p@a",
        "a:99999",
        "a:0",
        "a b",
        'a"',
        "[x]",
        "-a",
    ],
)
def test_what_is_no_registry_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="no registry"):
        parse(text)
