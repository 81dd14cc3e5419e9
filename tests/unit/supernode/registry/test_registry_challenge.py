"""Challenges are read as RFC 9110 writes them."""

from __future__ import annotations

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
    AuthChallenge,
    tokens.map(str.lower),
    st.dictionaries(tokens.map(str.lower), texts, min_size=1, max_size=3),
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
        (['Digest realm="a", nonce="b"', "Basic"], [("digest", {"realm": "a", "nonce": "b"}), ("basic", {})]),
    ],
)
def test_challenges_are_read_in_order(values: list[str], expected: list[tuple[str, dict[str, str]]]) -> None:
    assert expected == list(challenge.parse(values))


@pytest.mark.parametrize(
    "value",
    [
        '="x"',
        'Basic realm="x',
        'Basic realm="x" service="y"',
        'Basic realm="x", realm="y"',
        "Basic @@",
        'Bearer realm="a"b',
        "x" * 9000,
    ],
)
def test_what_is_no_challenge_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="challenge"):
        challenge.parse([value])


@given(st.lists(challenges, max_size=4))
def test_challenges_are_read_as_they_were_written(written: list[AuthChallenge]) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    values = [
        f"{scheme} " + ", ".join(f"{name}={quoted(text)}" for name, text in parameters.items())
        for scheme, parameters in written
    ]
    assert tuple(written) == challenge.parse(values)
    assert tuple(written) == challenge.parse([", ".join(values)])


@given(st.lists(st.text('aB= ,"\\\t/;', max_size=30), max_size=3))
def test_any_value_is_read_or_refused(values: list[str]) -> None:
    try:
        found = challenge.parse(values)
    except ValueError:
        return
    assert all(item.scheme == item.scheme.lower() for item in found)
