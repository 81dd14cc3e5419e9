"""A token is asked of whom the registry names, for one repository, and its end is known."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_supernode.registry import token
from pantala_supernode.registry.challenge import AuthChallenge


def bearer(**parameters: str) -> AuthChallenge:
    return AuthChallenge("bearer", parameters)


def test_a_token_is_for_pulling_from_one_repository() -> None:
    asked = bearer(
        realm="https://auth.example.com/token?a=b%26c",
        service="registry one",
        scope="repository:team/app:pull,push repository:mirror/team/app:pull registry:catalog:*",
    )
    url = token.demand(asked, "team/app", plain_http=False).url
    assert urlsplit(url)[:3] == ("https", "auth.example.com", "/token")
    assert {
        "a": ["b&c"],
        "service": ["registry one"],
        "scope": ["repository:team/app:pull", "repository:mirror/team/app:pull"],
    } == parse_qs(urlsplit(url).query)


def test_an_identity_token_is_posted() -> None:
    form = token.demand(bearer(realm="https://a/t", service="s"), "x", plain_http=False).form("idt")
    assert ("refresh_token", "idt", "s", "repository:x:pull") == tuple(
        form[name] for name in ("grant_type", "refresh_token", "service", "scope")
    )


@pytest.mark.parametrize(
    "realm",
    [
        "",
        "token",
        "//auth/token",
        "ftp://auth/token",
        "file:///etc/passwd",
        "http://auth/token",
        "https://",
        "https://user@auth/token",
        "https://auth/token#x",
        "https://auth:port/token",
        "https://au th/token",
        "https://auth/" + "x" * 3000,
    ],
)
def test_a_realm_that_is_no_https_url_gets_no_password(realm: str) -> None:
    with pytest.raises(ValueError, match="realm"):
        token.demand(bearer(realm=realm), "x", plain_http=False)


def test_a_plain_http_registry_may_have_a_plain_http_realm() -> None:
    assert token.demand(bearer(realm="http://a:5001/t"), "x", plain_http=True).realm == "http://a:5001/t"


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ({"token": "abc"}, ("abc", 60)),
        ({"access_token": "abc", "expires_in": 300}, ("abc", 300)),
        ({"token": "abc", "expires_in": "90"}, ("abc", 90)),
        ({"token": "abc", "expires_in": 1e12}, ("abc", 86400)),
        ({"token": "abc", "expires_in": -5}, ("abc", 1)),
        ({"token": "abc", "expires_in": "soon", "issued_at": 7}, ("abc", 60)),
        ({"token": "abc", "expires_in": None, "refresh_token": {}}, ("abc", 60)),
    ],
)
def test_a_token_and_its_life_are_read(reply: object, expected: tuple[str, int]) -> None:
    assert expected == token.read(json.dumps(reply).encode())


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"<html>", b'{"token": ""}', b'{"token": "a b"}', b'{"token": "a\\nb"}', b'{"token": 5}']
)
def test_what_is_no_token_is_refused_and_not_quoted(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"no token$"):
        token.read(body)


@given(st.binary(max_size=60))
def test_any_answer_is_a_token_or_refused(body: bytes) -> None:
    try:
        token.read(body)
    except ValueError:
        return


def test_a_token_is_not_shown() -> None:
    assert "secret" not in repr(token.read(b'{"token": "secret"}'))
