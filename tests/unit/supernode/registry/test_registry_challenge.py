"""Challenges follow RFC 9110. A token is valid for one repository, and only a trusted server issues it."""

import json
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_supernode.registry import challenge
from pantala_supernode.registry.challenge import AuthChallenge

HUB = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull"'
PARAMETERS = {
    "realm": "https://auth.docker.io/token",
    "service": "registry.docker.io",
    "scope": "repository:library/nginx:pull",
}
tokens = st.text("abcXYZ019-_.~!", min_size=1, max_size=8)
texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
challenges = st.builds(
    AuthChallenge, tokens.map(str.lower), st.dictionaries(tokens.map(str.lower), texts, min_size=1, max_size=3)
)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], []),
        ([""], []),
        ([HUB], [("bearer", PARAMETERS)]),
        (['Basic realm="a, b"'], [("basic", {"realm": "a, b"})]),
        (["Basic realm=x"], [("basic", {"realm": "x"})]),
        (["Basic"], [("basic", {})]),
        (["Basic realm="], [("basic", {})]),
        (["Negotiate, Basic"], [("negotiate", {}), ("basic", {})]),
        (["Negotiate YWJj==", 'Basic realm="x"'], [("negotiate", {}), ("basic", {"realm": "x"})]),
        ([f'Basic realm="x", {HUB}'], [("basic", {"realm": "x"}), ("bearer", PARAMETERS)]),
        (['BASIC Realm = "q\\"uo\\\\te" , charset="UTF-8"'], [("basic", {"realm": 'q"uo\\te', "charset": "UTF-8"})]),
        ([' , ,Basic realm="x", ,'], [("basic", {"realm": "x"})]),
        (['Basic realm="x", Realm="x"'], [("basic", {"realm": "x"})]),
        (['Bearer realm="x",scope="a",scope="b"'], [("bearer", {"realm": "x", "scope": "a b"})]),
        (['Bearer scope="a b",scope="a b"'], [("bearer", {"scope": "a b"})]),
        (['Bearer scope="a",scope="b",scope="b"'], [("bearer", {"scope": "a b b"})]),
        (['Basic realm="x"', 'Basic realm="y"'], [("basic", {"realm": "x"}), ("basic", {"realm": "y"})]),
        (['Digest realm="a", nonce="b"', "Basic"], [("digest", {"realm": "a", "nonce": "b"}), ("basic", {})]),
    ],
)
def test_challenges_are_read_in_order(values: list[str], expected: list[tuple[str, dict[str, str]]]) -> None:
    assert expected == list(challenge.parse(values))


@pytest.mark.parametrize(
    "value",
    [
        '="x"', 'Basic realm="x', 'Basic realm="x" service="y"', 'Basic realm="x", realm="y"',
        'Bearer realm="https://a/t", REALM="https://b/t"', 'Bearer service="a", service="b"',
        'Bearer realm="x", realm=""', "Basic @@", 'Bearer realm="a"b', "x" * 9000,
    ],
)  # fmt: skip
def test_an_invalid_challenge_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="WWW-Authenticate"):
        challenge.parse([value])


@pytest.mark.parametrize(
    "values",
    [
        ['Negotiate realm="x', "Basic realm=y"],
        ["Basic realm=y", 'Negotiate realm="x'],
        ['Basic realm=y, Negotiate realm="x'],
        ['Bearer realm="x", realm="z", Basic realm=y'],
        ['Bearer realm="x" service="z"', "Basic realm=y"],
    ],
)
def test_a_malformed_challenge_leaves_the_valid_ones(values: list[str]) -> None:
    assert (AuthChallenge("basic", {"realm": "y"}),) == challenge.parse(values)


def test_the_parameters_of_a_challenge_may_be_in_several_headers() -> None:
    assert (AuthChallenge("bearer", {"realm": "x", "service": "y"}),) == challenge.parse(
        ["Bearer realm=x", "service=y"]
    )


@given(st.lists(challenges, max_size=4))
def test_written_challenges_are_read_back(written: list[AuthChallenge]) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    values = [
        f"{scheme} " + ", ".join(f"{name}={quoted(text)}" for name, text in parameters.items())
        for scheme, parameters in written
    ]
    assert tuple(written) == challenge.parse(values)
    assert tuple(written) == challenge.parse([", ".join(values)])


def bearer(**parameters: str) -> AuthChallenge:
    return AuthChallenge("bearer", parameters)


def test_a_token_request_is_for_one_repository() -> None:
    asked = bearer(
        realm="https://auth.example.com/token?a=b%26c",
        service="registry one",
        scope="repository:team/app:pull,push repository:mirror/team/app:pull registry:catalog:*",
    )
    url = challenge.token_request(asked, "team/app", plain_http=False).url
    assert urlsplit(url)[:3] == ("https", "auth.example.com", "/token")
    assert {
        "a": ["b&c"],
        "service": ["registry one"],
        "scope": ["repository:team/app:pull", "repository:mirror/team/app:pull"],
    } == parse_qs(urlsplit(url).query)


def test_an_identity_token_is_posted() -> None:
    form = challenge.token_request(bearer(realm="https://a/t", service="s"), "x", plain_http=False).form("idt")
    assert ("refresh_token", "idt", "s", "repository:x:pull") == tuple(
        form[name] for name in ("grant_type", "refresh_token", "service", "scope")
    )


@pytest.mark.parametrize(
    "realm",
    [
        "", "token", "//auth/token", "ftp://auth/token", "file:///etc/passwd", "http://auth/token", "https://",
        "https://user@auth/token", "https://auth/token#x", "https://auth:port/token", "https://au th/token",
        "https://auth/" + "x" * 3000,
    ],
)  # fmt: skip
def test_a_realm_must_be_an_https_url(realm: str) -> None:
    with pytest.raises(ValueError, match="token server"):
        challenge.token_request(bearer(realm=realm), "x", plain_http=False)


def test_a_realm_may_be_http_if_the_registry_is() -> None:
    assert challenge.token_request(bearer(realm="http://a:5001/t"), "x", plain_http=True).realm == "http://a:5001/t"


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
def test_a_token_and_its_lifetime_are_read(reply: object, expected: tuple[str, int]) -> None:
    assert expected == challenge.read_token(json.dumps(reply).encode())


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"<html>", b'{"token": ""}', b'{"token": "a b"}', b'{"token": "a\\nb"}', b'{"token": 5}']
)
def test_an_invalid_token_is_refused_and_not_quoted(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"valid token$"):
        challenge.read_token(body)


def test_a_token_is_not_shown() -> None:
    assert "secret" not in repr(challenge.read_token(b'{"token": "secret"}'))
