"""The operator's flags, and the environment that mirrors them."""

import dataclasses
import json
import logging
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_operator.settings import Settings, parse
from pantala_process.settings import ListenAddress, SettingsError
from pantala_protocol.rules.names import SharedPath
from pantala_protocol.rules.quotas import Quota, Quotas

_EXAMPLES: dict[str, tuple[str, object]] = {
    "supernode": ("http://x:1/, http://y:2", ("http://x:1", "http://y:2")),
    "supernode_statefulset": ("ns/x", "ns/x"),
    "lease": ("ns/x", "ns/x"),
    "health_listen": ("[::1]:9", ListenAddress("::1", 9)),
    "console_listen": ("[::1]:9", ListenAddress("::1", 9)),
    "startup_taints": ("a/, b/c", ("a/", "b/c")),
    "node_condition": ("yes", True),
    "token_file": ("/some/token", Path("/some/token")),
    "quotas": ("*=tasks:5", Quotas(Quota(tasks=5))),
    "shared_paths": ("a=models, b=x/y", (SharedPath("a", "models"), SharedPath("b", "x/y"))),
    "tls_listen": ("[::1]:9", ListenAddress("::1", 9)),
    "peer_health_port": ("9", 9),
    "log_level": ("debug", logging.DEBUG),
}
_BASES: dict[str, dict[str, str]] = {
    "supernode_statefulset": {},
    "tls_listen": {"PANTALA_SUPERNODE_STATEFULSET": "ns/x", "POD_NAMESPACE": "ns", "POD_ID": "pod"},
}


@pytest.mark.parametrize("field", dataclasses.fields(Settings), ids=lambda field: str(field.name))
def test_every_setting_has_a_flag_and_a_variable(field: dataclasses.Field[object]) -> None:
    base = _BASES.get(field.name, {"PANTALA_SUPERNODE": "http://s:8002"})
    text, expected = _EXAMPLES.get(field.name, ("7.5", 7.5) if field.type is float else ("/some/file", "/some/file"))
    by_variable = parse([], base | {f"PANTALA_{field.name.upper()}": text})
    by_flag = parse([f"--{field.name.replace('_', '-')}", text], base | {f"PANTALA_{field.name.upper()}": "ignored"})
    assert expected == getattr(by_variable, field.name) == getattr(by_flag, field.name)


ONE = ("--supernode", "http://s")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Set either --supernode http://HOST:8002 or --supernode-statefulset NAMESPACE/NAME"),
        (("--supernode", "s:8002"), "'s:8002' is not a valid http or https URL"),
        (("--supernode", ","), "',' is not a valid http or https URL"),
        (("--supernode", "http://s:1,http://u@s:1"), "names one host and port twice"),
        ((*ONE, "--supernode-statefulset", "ns/s"), "exclude each other"),
        (("--supernode-statefulset", "s"), "'s' is not the name of a StatefulSet"),
        (("--supernode-statefulset", "ns/"), "'ns/' is not the name of a StatefulSet"),
        ((*ONE, "--health-listen", "8080"), "'8080' is not a valid HOST:PORT"),
        ((*ONE, "--root", "files"), "'files' is not an absolute directory"),
        ((*ONE, "--root", "/"), "'/' is not an absolute directory"),
        ((*ONE, "--relist-interval", "0"), "'0' is not a number of seconds above 0"),
        *(((*ONE, "--startup-taints", keys), "has an invalid key: ") for keys in ("a b", "a,/", "a/b/c", "*")),
        ((*ONE, "--progress-interval", "soon"), "'soon' is not a number of seconds above 0"),
    ],
)
def test_what_cannot_be_used_is_refused(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse(arguments, {})


CHART = Path(__file__).resolve().parents[3] / "charts" / "pantala"
VALUES = json.loads((CHART / "values.schema.json").read_text())["properties"]


@given(st.text("aZ0._-/*", min_size=1, max_size=8))
def test_the_operator_accepts_the_startup_taints_that_the_chart_accepts(key: str) -> None:
    accepted = re.search(VALUES["prefetch"]["properties"]["startupTaints"]["items"]["pattern"], key) is not None
    try:
        parse((*ONE, "--startup-taints", key), {})
    except SettingsError:
        assert not accepted
    else:
        assert accepted
