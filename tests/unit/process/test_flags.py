"""Settings are read from flags and variables, and errors name them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pantala_process import settings
from pantala_process.settings import ListenAddress, SettingsError, flag, names_loopback, switch


@dataclass(frozen=True)
class Example:
    supernode_url: str = flag(settings.http_url, "URL", "where the supernode is")
    downloads: int = flag(settings.whole(1, 64, "pieces"), "N", "pieces at once", default=4)
    loud: bool = switch("log more")


def read(arguments: list[str], environment: dict[str, str] | None = None) -> Example:
    flags = settings.flags(Example)
    return Example(**settings.parse(flags, arguments, environment or {}, program="example", description="Tests."))


def test_a_flag_wins_over_a_variable_which_wins_over_the_default() -> None:
    environment = {"PANTALA_SUPERNODE_URL": "http://variable", "PANTALA_DOWNLOADS": "5", "PANTALA_LOUD": "True"}
    assert Example("http://variable", 5, loud=True) == read([], environment)
    assert Example("http://flag", 6, loud=True) == read(
        ["--supernode-url", "http://flag/", "--downloads", "6"], environment
    )
    assert Example("http://flag", 4, loud=True) == read(["--supernode-url", "http://flag", "--loud"])


def test_an_error_names_the_variable_if_the_value_came_from_there() -> None:
    with pytest.raises(SettingsError, match=r"^--downloads \(from PANTALA_DOWNLOADS\) '99' is not"):
        read(["--supernode-url=http://x"], {"PANTALA_DOWNLOADS": "99"})
    with pytest.raises(SettingsError, match=r"^--downloads '98' is not"):
        read(["--supernode-url=http://x", "--downloads=98"], {"PANTALA_DOWNLOADS": "99"})


def test_the_help_names_required_flags_and_the_variables(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read(["--help"])
    text = capsys.readouterr().out
    assert "where the supernode is (required)" in text
    assert "pieces at once\n" in text
    assert "PANTALA_LOG_LEVEL" in text


@pytest.mark.parametrize("text", ["node_1.corp", "10.0.0.7", "fd00::7", "fe80::1%eth0"])
def test_a_host_is_a_name_or_an_address(text: str) -> None:
    assert text == settings.host(text)


def test_an_empty_value_counts_as_not_given() -> None:
    assert 4 == read(["--supernode-url", "http://x", "--downloads", ""], {"PANTALA_DOWNLOADS": "9"}).downloads
    with pytest.raises(SettingsError, match="--supernode-url is missing"):
        read([], {"PANTALA_SUPERNODE_URL": ""})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--downloads", "many"], "--downloads 'many' is not a whole number of pieces from 1 to 64."),
        (["--colour", "red"], "unrecognized arguments: --colour red. See example --help."),
        (
            ["--supernode-url", "http://user:secret@x:y"],
            "--supernode-url '<unreadable URL>' is not a valid http or https",
        ),
    ],
)
def test_a_wrong_value_gives_one_line_without_secrets(arguments: list[str], message: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read(["--supernode-url", "http://x", *arguments])
    assert message in str(raised.value)
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("reader", "text", "expected"),
    [
        (settings.address, "0.0.0.0:8080", ListenAddress("0.0.0.0", 8080)),
        (settings.address, "[::1]:0", ListenAddress("::1", 0)),
        (settings.address, ":80", ListenAddress("", 80)),
        (settings.http_url, "https://[::1]:8002/base/", "https://[::1]:8002/base"),
        (settings.unix_socket, "unix:/run/x.sock", Path("/run/x.sock")),
        (settings.unix_socket, "unix:///run/x.sock", Path("/run/x.sock")),
        (settings.seconds, "0.5", 0.5),
        (settings.whole(1, 100, "percent"), "100", 100),
        (settings.size, "0", 0),
        (settings.size, "2Gi", 2 << 30),
        (settings.rate, "500k", 500_000.0),
        (settings.rate, "1Gi", float(1 << 30)),
        (settings.yes_or_no, "yes", True),
        (settings.yes_or_no, "no", False),
    ],
)
def test_values(reader: Callable[[str], Any], text: str, expected: object) -> None:
    assert expected == reader(text)


@pytest.mark.parametrize(
    ("reader", "texts"),
    [
        (
            settings.address,
            ["8080", "host:", "host:65536", "host:²", "host:-1", f"host:{'9' * 5000}", "::1:80", "[::1:80"],
        ),
        (settings.http_url, ["host:80", "http://", "http://h:99999", "file:///etc/passwd", "http://h?q", "http://h#f"]),
        (settings.unix_socket, ["/run/x.sock", "unix:", "unix:x", "unix:///", "tcp:1", f"unix:/{'x' * 107}"]),
        (settings.seconds, ["0", "-1", "nan", "inf", "soon"]),
        (settings.whole(1, 100, "percent"), ["0", "101", "1.5", "²", "9" * 5000]),
        (settings.size, ["10G", "Gi", "-1", "1.5Gi", "10 Gi", "10GiGi", "9" * 16]),
        (settings.rate, ["fast", "0", "0k", "1Ti", "1.5M", "k"]),
        (settings.yes_or_no, ["maybe", "1", "Yes", "true"]),
    ],
)
def test_unusable_values(reader: Callable[[str], object], texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(ValueError, match=r"is n|has a port"):
            reader(text)


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("", False)]
)
def test_loopback_addresses(host: str, expected: bool) -> None:
    assert expected == ListenAddress(host, 80).is_loopback


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost", True),
        ("LocalHost:5000", True),
        ("127.0.0.1:80", True),
        ("127.3.2.1", True),
        ("[::1]", True),
        ("[::1]:443", True),
        ("::1", False),
        ("127.1", False),
        ("[localhost]", False),
        ("localhost:", False),
        ("localhost.example.com", False),
        ("a@localhost", False),
        ("10.0.0.1:80", False),
        ("", False),
    ],
)
def test_hosts_of_this_machine_are_recognised(text: str, expected: bool) -> None:
    assert expected == names_loopback(text)
