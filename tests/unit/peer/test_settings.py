"""Flags and the environment that mirrors them."""

from pathlib import Path

import pytest

from pantala_peer.errors import SettingsError
from pantala_peer.settings import Address, Settings, parse

FLAGS = ["--supernode", "http://sn:8002/", "--listen", "[::]:65002", "--root", "/r", "--name", "node-1"]
SOCKET = Path("/run/pantala/runtime.sock")


def test_flags_alone_suffice() -> None:
    assert Settings("http://sn:8002", Address("::", 65002), Path("/r"), "node-1", runtime_socket=SOCKET) == parse(
        FLAGS, {}
    )


def test_the_environment_mirrors_every_flag() -> None:
    environment = {
        "PANTALA_SUPERNODE": "https://sn",
        "PANTALA_LISTEN": "0.0.0.0:1",
        "PANTALA_ROOT": "/r",
        "PANTALA_NAME": "n",
        "PANTALA_ZONE": "z",
        "PANTALA_TOKEN_FILE": "/t",
        "PANTALA_HEALTH_LISTEN": "127.0.0.1:2",
        "PANTALA_MIRROR_LISTEN": "127.0.0.1:65001",
        "PANTALA_MIRROR_TOKEN_FILE": "/m",
        "PANTALA_MIRROR_RESOLVE": "yes",
        "PANTALA_MIRROR_ADDRESS": "http://127.0.0.1:65001/",
        "PANTALA_RUNTIME_SOCKET": "unix:///run/other.sock",
        "PANTALA_BLOB_CACHE": "2Gi",
        "PANTALA_DOWNLOADS": "8",
        "PANTALA_UPLOADS": "9",
    }
    expected = Settings(
        "https://sn",
        Address("0.0.0.0", 1),
        Path("/r"),
        "n",
        zone="z",
        token_file=Path("/t"),
        health_listen=Address("127.0.0.1", 2),
        mirror_listen=Address("127.0.0.1", 65001),
        mirror_address="http://127.0.0.1:65001",
        runtime_socket=Path("/run/other.sock"),
        blob_cache=2 << 30,
        mirror_token_file=Path("/m"),
        mirror_resolve=True,
        downloads=8,
        uploads=9,
    )
    assert expected == parse([], environment)


def test_a_flag_wins_and_an_empty_variable_is_none() -> None:
    environment = {"PANTALA_NAME": "other", "PANTALA_ZONE": ""}
    assert parse(FLAGS, environment).name == "node-1"
    assert parse(FLAGS, environment).zone == ""


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "--supernode is missing: give it, or set PANTALA_SUPERNODE"),
        (["--supernode", "sn:8002"], "--listen is missing"),
        ([*FLAGS, "--supernode", "sn:8002"], "--supernode is not a URL"),
        ([*FLAGS, "--supernode", "http://sn:99999"], "--supernode is not a URL"),
        ([*FLAGS, "--supernode", "file:///etc/passwd"], "--supernode is not a URL"),
        ([*FLAGS, "--listen", "65002"], "--listen is not HOST:PORT"),
        ([*FLAGS, "--listen", "h:65536"], "--listen is not HOST:PORT"),
        ([*FLAGS, "--downloads", "0"], "--downloads is not a number from 1 to 64"),
        ([*FLAGS, "--uploads", "many"], "--uploads is not a number from 1 to 64"),
        ([*FLAGS, "--colour", "red"], "unrecognized arguments: --colour red; see pantala-peer --help"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(flags: list[str], said: str) -> None:
    with pytest.raises(SettingsError) as raised:
        parse(flags, {})
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_there_need_be_no_helper() -> None:
    assert parse([*FLAGS, "--runtime-socket", "none"], {}).runtime_socket is None


@pytest.mark.parametrize("size", ["10G", "Gi", "-1", "1.5Gi", "10 Gi", "10GiGi", "9" * 16])
def test_a_size_that_is_none_is_refused(size: str) -> None:
    with pytest.raises(SettingsError, match="--blob-cache"):
        parse([*FLAGS, "--blob-cache", size], {})


@pytest.mark.parametrize("socket", ["/run/x.sock", "unix:", "unix:x", "tcp:1", f"unix:/{'x' * 107}"])
def test_only_a_unix_socket_is_a_helpers(socket: str) -> None:
    with pytest.raises(SettingsError, match="--runtime-socket"):
        parse([*FLAGS, "--runtime-socket", socket], {})
