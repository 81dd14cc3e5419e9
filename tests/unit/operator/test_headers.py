"""Headers from a Secret."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_operator.plan import headers
from pantala_operator.plan.headers import Absent, Denied, Headers, Unread
from pantala_operator.plan.problem import Problem
from pantala_operator.resources.api import Metadata, Secret


def secret(**data: bytes) -> Secret:
    return Secret(
        Metadata("s", "ns", uid="secret-uid"),
        {key.replace("_", "-"): base64.b64encode(value).decode() for key, value in data.items()},
    )


def test_keys_are_names_and_values_are_lines() -> None:
    read = headers.read("ns/s", secret(Authorization=b"Bearer t", X_Tenant=b"caf\xe9"))
    assert Headers({"Authorization": "Bearer t", "X-Tenant": "café"}, "secret-uid") == read


def test_the_newline_that_a_file_ends_with_is_no_part_of_the_value() -> None:
    read = headers.read("ns/s", secret(Authorization=b"Basic eA==\n"))
    assert Headers({"Authorization": "Basic eA=="}, "secret-uid") == read


@pytest.mark.parametrize(
    "key",
    [
        *("Host", "Range", "If_Range", "if_none_match", "Accept_Encoding", "Content_Length", "Connection", "TE"),
        *("Transfer_Encoding", "Upgrade", "Keep_Alive", "Proxy_Authorization", "Expect"),
    ],
)
def test_headers_that_would_change_the_request_itself_are_refused(key: str) -> None:
    read = headers.read("ns/s", secret(**{key: b"x"}))
    assert isinstance(read, Problem)
    assert ("SecretInvalid", False) == (read.reason, read.final)


@pytest.mark.parametrize("value", [b"a\nb", b"a\r\nX-Evil: 1", b"a\0b", b"\x7f", b"x" * 20_000, b"\n\n"])
def test_values_that_are_not_one_line_are_refused_and_not_shown(value: bytes) -> None:
    read = headers.read("ns/s", secret(Authorization=value))
    assert isinstance(read, Problem)
    assert "SecretInvalid" == read.reason
    assert "Evil" not in read.message


@pytest.mark.parametrize("data", [{"a.b c": "eA=="}, {"": "eA=="}, {"A": "%"}, {"a": "eA==", "A": "eA=="}, {}])
def test_what_is_no_header_is_refused(data: dict[str, str]) -> None:
    read = headers.read("ns/s", Secret(Metadata("s"), data))
    assert isinstance(read, Problem)
    assert "SecretInvalid" == read.reason


def test_why_there_are_none() -> None:
    assert Unread() == headers.read("ns/s", Unread())
    absent, denied = headers.read("ns/s", Absent()), headers.read("ns/s", Denied("cannot get secrets"))
    assert isinstance(absent, Problem)
    assert isinstance(denied, Problem)
    assert ("SecretMissing", "SecretForbidden") == (absent.reason, denied.reason)
    assert "cannot get secrets" in denied.message


@given(st.binary(max_size=200))
def test_no_value_can_end_a_header(value: bytes) -> None:
    read = headers.read("ns/s", secret(X=value))
    if isinstance(read, Headers):
        assert not set(read.values["X"]) & {"\r", "\n", "\0"}
