"""Registries, and our part in a hosts.toml."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_peer.containerd.errors import UnusableFileError
from pantala_peer.containerd.hosts import HostPart, MirrorHost, has_ours, with_ours, without_ours
from pantala_peer.containerd.registry import ContainerdRegistry, parse_registry
from pantala_process.settings import SettingsError

MIRROR = MirrorHost("http://127.0.0.1:65001", "t0ken")
PART = HostPart(MIRROR, server="https://registry.example.com")

LINES = st.sampled_from(
    [
        "", "# a comment", 'server = "https://other"', "skip_verify = true", 'ca = "/x.crt"', "[host]",
        '[host."https://a"]', "[host.b]", '  capabilities = ["pull", "resolve"]', '  [host."https://a".header]',
        '    authorization = ["Basic x"]', "x = [", "[1],", "]", 'text = """', "[host.c]", '"""', "host = {}",
        'host."https://d".capabilities = ["pull"]', "# <<< pantala", "é = 1", "[[other]]", 'capabilities = ["fly"]',
    ]
)  # fmt: skip
FILES = st.builds(
    lambda lines, newline, last: (newline.join(lines) + newline * last).encode(),
    st.lists(LINES, max_size=8),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
) | st.binary(max_size=40)


def test_a_new_file_names_the_registry_and_first_the_mirror() -> None:
    assert {
        "server": "https://registry.example.com",
        "host": {
            "http://127.0.0.1:65001": {
                "capabilities": ["pull"],
                "dial_timeout": "200ms",
                "header": {"x-pantala-mirror": ["t0ken"]},
            }
        },
    } == tomllib.loads(with_ours(b"", PART).decode())


@given(FILES)
def test_our_part_is_removed_without_a_trace(theirs: bytes) -> None:
    try:
        new = with_ours(theirs, PART)
    except UnusableFileError:
        return
    assert has_ours(new)
    assert theirs == without_ours(new)


@given(FILES)
def test_other_hosts_stay_after_the_mirror(theirs: bytes) -> None:
    try:
        new = tomllib.loads(with_ours(theirs, PART).decode())
    except UnusableFileError:
        return
    before = tomllib.loads(theirs.decode())
    assert [MIRROR.url, *before.get("host", {})] == list(new["host"])
    del new["host"][MIRROR.url]
    expected = {"host": {}, **before}
    if not before.keys() & {"server", "host"}:
        expected["server"] = "https://registry.example.com"
    assert expected == new


@given(FILES, st.integers(0, 400), st.text("#x\n[]", max_size=5))
def test_text_added_by_others_stays_when_our_part_is_removed(theirs: bytes, at: int, added: str) -> None:
    """Text inside our part is removed with it."""
    try:
        new = with_ours(theirs, PART)
    except UnusableFileError:
        return
    lines = new.split(b"\n")
    ours = range(lines.index(PART.text().encode().split(b"\n")[0]) + 1, lines.index(b"# <<< pantala") + 1)
    at = min(at, len(lines))
    if at not in ours:
        changed = b"\n".join([*lines[:at], b"#" + added.replace("\n", "").encode(), *lines[at:]])
        rest = without_ours(changed).split(b"\n")
        rest.remove(b"#" + added.replace("\n", "").encode())
        assert theirs.rstrip() == b"\n".join(rest).rstrip()


@pytest.mark.parametrize(
    ("theirs", "why"),
    [
        (b"server = ", "not TOML"),
        (b"\xff", "not TOML"),
        (b"host = 1", "not a table of hosts"),
        (b"[host]\na = 1", "not a table of hosts"),
        (b'host = {"https://a" = {}}', r"write them as \[host"),
        (b'host."https://a".ca = "x"', r"write them as \[host"),
        (b'[host."http://127.0.0.1:65001"]', "already"),
        (b'[host.a]\ncapabilities = ["fly"]', "capabilities"),
        (b'[host.a]\ndial_timeout = "soon"', "dial_timeout"),
        (b"[host.a]\nclient = [['a', 'b', 'c']]", "client"),
        (b"[host.a.header]\nx = 1", "header"),
        (b"server = 1", "server"),
    ],
)
def test_a_file_that_containerd_ignores_is_refused_with_the_reason(theirs: bytes, why: str) -> None:
    with pytest.raises(UnusableFileError, match=why):
        with_ours(theirs, PART)


def test_an_inactive_server_does_not_become_the_default() -> None:
    theirs = b'server = "http://cache"\n'
    with pytest.raises(UnusableFileError, match="registry of all images"):
        with_ours(theirs, HostPart(MIRROR, default=True))
    assert theirs == without_ours(with_ours(theirs, PART))


@pytest.mark.parametrize(
    ("url", "token"),
    [
        ("https://127.0.0.1:65001", "x"),
        ("http://127.0.0.1", "x"),
        ("http://127.0.0.1:65001/", "x"),
        ('http://127.0.0.1:1"', "x"),
        ("http://u@127.0.0.1:1", "x"),
        ("http://127.0.0.1:65001", ""),
        ("http://127.0.0.1:65001", 'a"b'),
        ("http://127.0.0.1:65001", "a\nb"),
    ],
)
def test_an_invalid_mirror_is_refused(url: str, token: str) -> None:
    with pytest.raises(SettingsError):
        MirrorHost(url, token)


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


def test_a_mirror_at_an_ipv6_address_is_refused_because_containerd_1_cannot_read_it() -> None:
    with pytest.raises(SettingsError, match="containerd 1 cannot read"):
        MirrorHost("http://[fd00::1]:65001", "token")
