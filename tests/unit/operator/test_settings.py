"""Flags win over the environment, which wins over the defaults."""

import dataclasses
from pathlib import Path

import pytest

from pantala_operator.__main__ import main
from pantala_operator.resources import quantity
from pantala_operator.settings import Settings, parse
from pantala_process.settings import ListenAddress, SettingsError

_EXAMPLES: dict[str, tuple[str, object]] = {
    "supernode": ("http://x:1", ("http://x:1",)),
    "supernode_statefulset": ("ns/x", "ns/x"),
    "health_listen": ("[::1]:9", ListenAddress("::1", 9)),
    "token_file": ("/some/token", Path("/some/token")),
}


def test_defaults_are_those_of_the_class() -> None:
    assert Settings(supernode=("http://s:8002",)) == parse(["--supernode", "http://s:8002/"], {})


def test_supernodes_are_listed_or_counted() -> None:
    assert ("http://a:1", "http://b:2") == parse(["--supernode", "http://a:1/, http://b:2"], {}).supernode
    counted = parse(["--supernode-statefulset", "ns/supernode"], {})
    assert ((), "ns/supernode") == (counted.supernode, counted.supernode_statefulset)


@pytest.mark.parametrize("field", dataclasses.fields(Settings), ids=lambda field: str(field.name))
def test_every_setting_has_a_flag_and_a_variable(field: dataclasses.Field[object]) -> None:
    base = {} if field.name == "supernode_statefulset" else {"PANTALA_SUPERNODE": "http://s:8002"}
    text, expected = _EXAMPLES.get(field.name, ("7.5", 7.5) if field.type is float else ("/some/file", "/some/file"))
    by_variable = parse([], base | {f"PANTALA_{field.name.upper()}": text})
    by_flag = parse([f"--{field.name.replace('_', '-')}", text], base | {f"PANTALA_{field.name.upper()}": "ignored"})
    assert expected == getattr(by_variable, field.name) == getattr(by_flag, field.name)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--supernode", "s:8002"],
        ["--supernode", "ftp://s"],
        ["--supernode", "http://s,"],
        ["--supernode", "http://s:1,http://u@s:1"],
        ["--supernode", "http://s", "--supernode-statefulset", "ns/s"],
        ["--supernode-statefulset", "s"],
        ["--supernode-statefulset", "ns/"],
        ["--supernode", "http://s", "--health-listen", "8080"],
        ["--supernode", "http://s", "--health-listen", "h:99999"],
        ["--supernode", "http://s", "--root", "files"],
        ["--supernode", "http://s", "--root", "/"],
        ["--supernode", "http://s", "--relist-interval", "0"],
        ["--supernode", "http://s", "--relist-interval", "nan"],
        ["--supernode", "http://s", "--progress-interval", "soon"],
    ],
)
def test_what_cannot_be_used_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SettingsError):
        parse(arguments, {})


def test_wrong_flags_end_the_process_with_2_and_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["pantala-operator"])
    monkeypatch.delenv("PANTALA_SUPERNODE", raising=False)
    with pytest.raises(SystemExit) as ended:
        main()
    assert 2 == ended.value.code
    assert "--supernode http://HOST:8002" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0"), (1023, "1023"), (1024, "1Ki"), (1536, "1.5Ki"), (256 << 20, "256Mi"), (1 << 60, "1024Pi")],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert text == quantity.render(size)
