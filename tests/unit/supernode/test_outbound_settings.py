"""The supernode's settings for the way to origins and registries."""

from pathlib import Path

import pytest
import trustme

from pantala_process.settings import SettingsError
from pantala_supernode.outbound.proxy import Proxy
from pantala_supernode.settings import Settings, parse


def read(*flags: str, **variables: str) -> Settings:
    return parse(["--data", "/d", *flags], variables)


def test_without_a_setting_there_is_no_proxy_and_there_are_the_defaults() -> None:
    found = read()
    assert (None, 8, 300.0, 256 * 1024, ()) == (
        found.proxy,
        found.origin_connections,
        found.origin_first_byte,
        found.origin_head_size,
        found.origin_ca,
    )


def test_the_numbers_are_settable() -> None:
    found = read("--origin-connections", "1", "--origin-first-byte=900", "--origin-head-size=300Ki")
    assert (1, 900.0, 300 * 1024) == (found.origin_connections, found.origin_first_byte, found.origin_head_size)


@pytest.mark.parametrize(
    "flag",
    [
        "--origin-connections=0", "--origin-connections=65", "--origin-connections=x", "--origin-first-byte=0",
        "--origin-first-byte=-1", "--origin-first-byte=nan", "--origin-head-size=301Ki", "--origin-head-size=0",
    ],
)  # fmt: skip
def test_invalid_numbers_are_refused(flag: str) -> None:
    with pytest.raises(SettingsError, match=flag.partition("=")[0]):
        read(flag)


@pytest.mark.parametrize("registry", ["a.1", "1.2.3", "http://1.2.3", "docker.io=https://1.2.3"])
def test_a_listed_registry_that_is_not_a_host_is_refused(registry: str) -> None:
    with pytest.raises(SettingsError, match=r"registry-realms: (a\.1|1\.2\.3) is not a valid host"):
        read(f"--registries={registry}")


def test_a_token_server_on_another_port_of_an_internal_registry_may_be_reached() -> None:
    found = read("--registries=registry.corp:5000", "--registry-realms=registry.corp:5000=registry.corp:5001")
    assert [("registry.corp", (5000,)), ("registry.corp", (5001,))] == [
        (*each.hosts, each.ports) for each in found.sources
    ]


def test_the_flags_name_the_proxy(tmp_path: Path) -> None:
    login = tmp_path / "login"
    login.write_bytes(b"ann:p\xff\n")
    found = read("--proxy=http://proxy:3128/", "--no-proxy=.svc, 10.0.0.0/8,,", f"--proxy-credentials={login}")
    assert Proxy("http://proxy:3128", (".svc", "10.0.0.0/8"), login) == found.proxy
    assert found.proxy is not None
    assert (b"ann", b"p\xff") == found.proxy.login()


def test_the_settings_do_not_show_the_password_of_the_proxy() -> None:
    assert "p4ss" not in repr(read(HTTPS_PROXY="http://ann:p4ss@proxy:3128"))


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"])
def test_the_usual_variables_name_the_proxy(name: str) -> None:
    found = read(**{name: "http://ann:pw@proxy:3128", "NO_PROXY": "localhost,.svc"})
    assert Proxy("http://ann:pw@proxy:3128", ("localhost", ".svc")) == found.proxy
    assert "pw" not in str(found.proxy)


def test_the_flags_win_over_the_variables() -> None:
    found = read("--proxy=ours:1", "--no-proxy=ours", HTTPS_PROXY="http://theirs:1", no_proxy="theirs")
    assert Proxy("http://ours:1", ("ours",)) == found.proxy
    assert Proxy("http://pantala:1") == read(PANTALA_PROXY="http://pantala:1", HTTPS_PROXY="http://theirs:1").proxy


@pytest.mark.parametrize(
    ("flags", "variables", "said"),
    [
        (["--proxy=http://ann:secret@proxy:1"], {}, "--proxy-credentials"),
        (["--proxy=socks5://proxy:1"], {}, "is not a valid http or https URL"),
        ([], {"HTTPS_PROXY": "socks5://proxy:1"}, "is not a valid http or https URL"),
        ([], {"HTTPS_PROXY": "http://\uff11.1.1.1:1"}, "ASCII"),
        (["--proxy=http://"], {}, "is not a valid http or https URL"),
        (["--proxy=proxy:1", "--proxy-credentials=/missing"], {}, "cannot be read"),
        (["--proxy=proxy:1", "--proxy-credentials=/dev/null"], {}, "user:password"),
        (["--origin-ca=/missing"], {}, "cannot be read"),
        (["--origin-ca=files.corp=/dev/null"], {}, "no readable certificate"),
    ],
)
def test_an_invalid_way_is_refused_at_the_start(flags: list[str], variables: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        read(*flags, **variables)
    assert "secret" not in str(caught.value)


def test_authorities_are_for_all_hosts_or_for_one(tmp_path: Path) -> None:
    file = tmp_path / "ca=1.pem"
    trustme.CA().cert_pem.write_to_path(file)
    assert (("*", file), ("files.corp", file)) == read(f"--origin-ca={file}, files.corp={file}").origin_ca
