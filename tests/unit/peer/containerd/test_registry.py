"""Registries and their directories."""

import pytest

from pantala_peer.containerd.registry import ContainerdRegistry, parse_registry
from pantala_process.settings import SettingsError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("docker.io", ContainerdRegistry("docker.io", "https://registry-1.docker.io")),
        ("index.docker.io", ContainerdRegistry("docker.io", "https://registry-1.docker.io")),
        ("registry.example.com", ContainerdRegistry("registry.example.com", "https://registry.example.com")),
        ("r.example:5000", ContainerdRegistry("r.example:5000", "https://r.example:5000")),
        ("localhost:5000", ContainerdRegistry("localhost:5000", "http://localhost:5000")),
        ("127.0.0.1:5000", ContainerdRegistry("127.0.0.1:5000", "http://127.0.0.1:5000")),
        ("http://10.0.0.5:5000", ContainerdRegistry("10.0.0.5:5000", "http://10.0.0.5:5000")),
        ("https://localhost:5000/", ContainerdRegistry("localhost:5000", "https://localhost:5000")),
        ("[fd00::1]:5000", ContainerdRegistry("[fd00::1]:5000", "https://[fd00::1]:5000")),
    ],
)
def test_a_name_or_a_url(text: str, expected: ContainerdRegistry) -> None:
    assert expected == parse_registry(text)


def test_containerd_looks_for_the_port_between_underscores_first() -> None:
    assert ("r.example_5000_", "r.example:5000") == parse_registry("r.example:5000").directories
    assert ("[fd00::1]_5000_", "[fd00::1]:5000") == parse_registry("[fd00::1]:5000").directories
    assert ("r.example",) == parse_registry("r.example").directories
    assert ("[fd00::1]",) == parse_registry("[fd00::1]").directories


@pytest.mark.parametrize(
    "text",
    [
        "", ".", "..", "_default", "a/b", "ftp://a", "http://",
        "http://u:p@a", "a:99999", "a:0", "a b", 'a"', "[x]", "-a",
    ],
)  # fmt: skip
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="not a registry"):
        parse_registry(text)
