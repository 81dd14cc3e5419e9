"""Secrets as request headers, and as pull secrets. No message shows a value."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_operator.plan.secrets import (
    Absent,
    Denied,
    Headers,
    SecretReading,
    Unread,
    docker_config,
    headers,
    pull_secret_faults,
    pull_secrets,
)
from pantala_operator.resources.api import Metadata, Secret
from pantala_operator.resources.status import Obstacle


def secret(**data: bytes) -> Secret:
    return Secret(
        Metadata("s", "ns", uid="secret-uid"),
        {key.replace("_", "-"): base64.b64encode(value).decode() for key, value in data.items()},
    )


def test_keys_are_names_and_values_are_lines() -> None:
    read = headers("ns/s", secret(Authorization=b"Bearer t", X_Tenant=b"caf\xe9"))
    assert Headers({"Authorization": "Bearer t", "X-Tenant": "café"}, "secret-uid") == read


def test_the_last_newline_of_a_file_is_not_part_of_the_value() -> None:
    read = headers("ns/s", secret(Authorization=b"Basic eA==\n"))
    assert Headers({"Authorization": "Basic eA=="}, "secret-uid") == read


@pytest.mark.parametrize(
    "key",
    [
        *("Host", "Range", "If_Range", "if_none_match", "Accept_Encoding", "Content_Length", "Connection", "TE"),
        *("Transfer_Encoding", "Upgrade", "Keep_Alive", "Proxy_Authorization", "Expect"),
    ],
)
def test_headers_that_would_change_the_request_itself_are_refused(key: str) -> None:
    read = headers("ns/s", secret(**{key: b"x"}))
    assert isinstance(read, Obstacle)
    assert ("SecretInvalid", False) == (read.reason, read.final)


@pytest.mark.parametrize("value", [b"a\nb", b"a\r\nX-Evil: 1", b"a\0b", b"\x7f", b"x" * 20_000, b"\n\n"])
def test_a_value_must_be_one_line(value: bytes) -> None:
    read = headers("ns/s", secret(Authorization=value))
    assert isinstance(read, Obstacle)
    assert "SecretInvalid" == read.reason
    assert "Evil" not in read.message


@pytest.mark.parametrize("data", [{"a.b c": "eA=="}, {"": "eA=="}, {"A": "%"}, {"a": "eA==", "A": "eA=="}, {}])
def test_a_key_must_be_a_header(data: dict[str, str]) -> None:
    read = headers("ns/s", Secret(Metadata("s"), data))
    assert isinstance(read, Obstacle)
    assert "SecretInvalid" == read.reason


def test_why_there_are_no_headers() -> None:
    assert Unread() == headers("ns/s", Unread())
    absent, denied = headers("ns/s", Absent()), headers("ns/s", Denied("cannot get secrets"))
    assert isinstance(absent, Obstacle)
    assert isinstance(denied, Obstacle)
    assert ("SecretMissing", "SecretForbidden") == (absent.reason, denied.reason)
    assert "cannot get secrets" in denied.message


@given(st.binary(max_size=200))
def test_no_value_can_end_a_header(value: bytes) -> None:
    read = headers("ns/s", secret(X=value))
    if isinstance(read, Headers):
        assert not set(read.values["X"]) & {"\r", "\n", "\0"}


AUTHS = {"registry.example": {"username": "ann", "password": "hidden"}}


def pull_secret(**data: object) -> Secret:
    encoded = {
        f".{key}": value if isinstance(value, str) else base64.b64encode(json.dumps(value).encode()).decode()
        for key, value in data.items()
    }
    return Secret(Metadata("s"), encoded)


@pytest.mark.parametrize(
    "data", [{"dockerconfigjson": {"auths": AUTHS, "credsStore": "x"}}, {"dockercfg": AUTHS}], ids=["new", "legacy"]
)
def test_both_kinds_of_pull_secrets_become_one(data: dict[str, object]) -> None:
    config = docker_config(pull_secret(**data))
    assert isinstance(config, str)
    assert {"auths": AUTHS} == json.loads(config)


@pytest.mark.parametrize(
    "data",
    [
        {"other": {}},
        {"dockerconfigjson": "not base64 of hidden"},
        {"dockerconfigjson": base64.b64encode(b"hidden").decode()},
        {"dockerconfigjson": {"registry.example": "hidden"}},
        {"dockerconfigjson": {"auths": {"registry.example": "hidden"}}},
        {"dockercfg": ["hidden"]},
    ],
)
def test_a_secret_that_is_not_a_pull_secret_is_reported_without_its_content(data: dict[str, object]) -> None:
    found = docker_config(pull_secret(**data))
    assert isinstance(found, Obstacle)
    assert "SecretInvalid" == found.reason
    assert found.message.startswith("The Secret s is not a pull secret: it")
    assert found.message.endswith("Create it with kubectl create secret docker-registry.")
    assert "hidden" not in found.message


def test_unusable_pull_secrets_are_left_out_and_reported() -> None:
    readings: dict[str, SecretReading] = {
        "good": pull_secret(dockercfg=AUTHS),
        "bad": pull_secret(),
        "gone": Absent(),
        "no": Denied("x"),
    }
    names = ["gone", "good", "bad", "no", "unread"]
    assert [{"auths": AUTHS}] == [json.loads(each) for each in pull_secrets(names, readings)]
    faults = list(pull_secret_faults(names, readings))
    expected = ["The Secret gone does not exist", "The Secret s is not a pull secret", "may not read the Secret no"]
    assert [True] * 3 == [text in fault for text, fault in zip(expected, faults, strict=True)]
