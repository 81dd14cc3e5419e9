"""Credentials are found as kubelet finds them, and permissions are remembered without them."""

import base64
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_supernode.registry.client import first_accepted
from pantala_supernode.registry.credentials import ANONYMOUS, Keyring, RegistryAccount
from pantala_supernode.registry.errors import ImageNotFoundError, RegistryUnauthorizedError

passwords = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
users = passwords.filter(lambda text: ":" not in text and text != "<token>")
lines = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=12)


def config(**auths: dict[str, str]) -> str:
    return json.dumps({"auths": auths})


def user(name: str) -> dict[str, str]:
    return {"username": name, "password": f"{name}'s"}


def found(keyring: Keyring, name: str) -> list[str]:
    return [credentials.username for credentials in keyring.find(name)]


def test_each_form_of_entry_is_read() -> None:
    coded = base64.b64encode(b"ann:se:cret").decode()
    keyring = Keyring.read(
        config(
            **{
                "a.b": {"auth": coded, "username": "other", "password": "x"},
                "c.d": {"auth": coded.rstrip("=")},
                "e.f": user("eve"),
                "g.h": {"identitytoken": "idt"},
                "i.j": {"registrytoken": "rgt"},
                "k.l": {},
            }
        )
    )
    names = ["a.b/x", "c.d/x", "e.f/x", "g.h/x", "i.j/x", "k.l/x", "m.n/x"]
    expected = [
        (RegistryAccount("ann", "se:cret"),),
        (RegistryAccount("ann", "se:cret"),),
        (RegistryAccount("eve", "eve's"),),
        (RegistryAccount(identity_token="idt"),),
        (RegistryAccount(registry_token="rgt"),),
        (ANONYMOUS,),
        (),
    ]
    assert expected == [keyring.find(name) for name in names]


@pytest.mark.parametrize(
    ("location", "name", "fits"),
    [
        ("a.b", "a.b/x", True),
        ("https://a.b", "a.b/x", True),
        ("https://a.b/v2/", "a.b/x", True),
        ("http://a.b/v1/", "a.b/x", True),
        ("a.b/", "a.b/x", True),
        ("a.b:443", "a.b/x", False),
        ("a.b", "a.b:5000/x", False),
        ("a.b:5000", "a.b:5000/x", True),
        ("a.b/team", "a.b/team/x", True),
        ("a.b/team", "a.b/other/x", False),
        ("*.b", "a.b/x", True),
        ("*.b", "a.c.b/x", False),
        ("a*.b:80", "abc.b:80/x", True),
        ("*", "a.b/x", False),
        ("b", "a.b/x", False),
        ("[::1]:5000", "[::1]:5000/x", True),
        ("[::1]:5000", "[::2]:5000/x", False),
        ("https://index.docker.io/v1/", "docker.io/library/x", True),
        ("docker.io", "docker.io/library/x", True),
        ("https://index.docker.io/v1/", "quay.io/x", False),
    ],
)
def test_locations_match_as_in_kubelet(location: str, name: str, *, fits: bool) -> None:
    assert (["u"] if fits else []) == found(Keyring.read(config(**{location: user("u")})), name)


def test_the_longest_path_comes_first_then_the_order_of_the_secrets() -> None:
    one = config(**{"a.b": user("host"), "a.b/team/app": user("app"), "a.b/team": user("team")})
    two = config(**{"a.b/team": user("later"), "*.b": user("pattern")})
    keyring = Keyring.read(one, two)
    assert ["app", "team", "later", "host", "pattern"] == found(keyring, "a.b/team/app")
    assert ["host", "pattern"] == found(keyring, "a.b/x")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"auths": []}',
        '{"auths": {"a.b": {"auth": "!!secret!!"}}}',
        '{"auths": {"a.b": {"auth": "c2VjcmV0"}}}',
        '{"auths": {"a.b": {"auth": 5}}}',
        '{"auths": {"a.b": {"identitytoken": "secret\\n"}}}',
        '{"auths": {"a.b": {"identitytoken": "se\\ncret"}}}',
        '{"auths": {"a.b": {"auth": "PHRva2VuPjphCmI="}}}',
        '{"auths": {"a.b": {"registrytoken": "secret\u00fc"}}}',
        '{"auths": {"a.b": {"username": "u", "password": "secret\\ud800"}}}',
        '{"auths": {"a.b": {"registrytoken": "secret\\r\\nX: y"}}}',
        '{"auths": {"secret": ' + "[" * 5000,
        " " * 1024 * 1024 + "{}",
    ],
)
def test_a_broken_secret_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="secret") as caught:
        Keyring.read(text)
    assert "secret!!" not in str(caught.value)
    assert "c2VjcmV0" not in str(caught.value)
    assert "secret\n" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        ([config(**{f"*{number}.b": user("u") for number in range(2049)})], "2048 entries"),
        ([config(**{f"a{number}.b": user("u") for number in range(2000)})] * 2, "2048 entries"),
        ([config(**{"a.b": {"username": "u", "password": "secret" * 6000}})], "32768 characters"),
        ([config(**{"a.b": {"registrytoken": "secret" * 6000}})], "32768 characters"),
    ],
)
def test_h7_a_pull_secret_that_holds_up_the_supernode_is_refused(texts: list[str], why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        Keyring.read(*texts)
    assert "secretsecret" not in str(caught.value)


def test_h7_an_endless_pattern_takes_no_time() -> None:
    keyring = Keyring.read(config(**{"*a" * 200_000 + ".b": user("u")}))
    began = time.thread_time()
    assert not keyring.find("a" * 63 + ".b/x")
    assert time.thread_time() - began < 0.2


KEY_FILE = json.dumps({"type": "service_account", "private_key": "-----BEGIN-----\nAAA\n-----END-----\n"}, indent=2)


@pytest.mark.parametrize(
    "pair",
    [
        b"_json_key:" + KEY_FILE.encode(),
        b"_json_key_base64:" + base64.encodebytes(KEY_FILE.encode()),
        b"ann:secret\n",
        b"ann:secret\r\n\t\0",
        "zoë:schlüssel".encode(),
        b"ann:f\xfcr\xff\x80",
        b"f\xfcr:x",
        b"ann:with:colons",
        b":only a password",
    ],
)
def test_user_and_password_may_have_any_bytes(pair: bytes) -> None:
    """Basic authentication sends base64, so the registry receives exactly the bytes of the secret."""
    sent, coded = "Basic " + base64.b64encode(pair).decode(), base64.b64encode(pair).decode()
    entries: list[dict[str, str]] = [{"auth": coded}, {"auth": base64.encodebytes(pair).decode()}]
    if pair.isascii():
        user, _, password = pair.decode().partition(":")
        entries += [{"username": user, "password": password}]
    for entry in entries:
        (account,) = Keyring.read(config(**{"a.b": entry})).find("a.b/x")
        assert [sent] * 2 == [account.basic, RegistryAccount.read(account.authorization).basic]


def test_secrets_are_not_shown() -> None:
    credentials = RegistryAccount("anna", "pass", "idtoken", "rgtoken")
    shown = f"{credentials!r} {credentials} {Keyring([('a.b', credentials)])!r} {[credentials]}"
    assert not [word for word in ("anna", "pass", "idtoken", "rgtoken") if word in shown]


@given(
    st.one_of(
        st.builds(RegistryAccount, users, passwords),
        st.builds(lambda token: RegistryAccount(identity_token=token), lines),
        st.builds(
            lambda token: RegistryAccount(registry_token=token), st.text("abcXYZ019-._~+/=", min_size=1, max_size=20)
        ),
        st.just(ANONYMOUS),
    )
)
def test_written_headers_are_read_back(credentials: RegistryAccount) -> None:
    assert credentials == RegistryAccount.read(credentials.authorization)
    assert credentials.authorization == RegistryAccount.read(credentials.authorization).authorization


@pytest.mark.parametrize("text", ["Digest x", "Basic !!", "Basic YQ==", "Bearer a\x00b", "secret"])
def test_other_headers_are_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(ValueError, match=r"Authorization|credentials") as caught:
        RegistryAccount.read(text)
    assert "secret" not in str(caught.value)


GOOD, POOR, BAD = (RegistryAccount(name, "p") for name in ("good", "poor", "bad"))


async def asked(account: RegistryAccount) -> str:
    """The answer of a registry that hides a repository from accounts that may not read it."""
    if account == GOOD:
        return "manifest"
    raise (ImageNotFoundError if account == POOR else RegistryUnauthorizedError).of("the image", account.username)


@pytest.mark.parametrize("accounts", [(GOOD, BAD), (BAD, GOOD), (POOR, GOOD), (POOR, BAD, GOOD)])
async def test_the_next_account_is_tried_after_a_refusal_and_after_404(accounts: tuple[RegistryAccount, ...]) -> None:
    assert "manifest" == await first_accepted(accounts, asked)


@pytest.mark.parametrize("accounts", [(POOR,), (POOR, BAD), (BAD, POOR)])
async def test_without_an_accepted_account_404_is_the_answer(accounts: tuple[RegistryAccount, ...]) -> None:
    with pytest.raises(ImageNotFoundError):
        await first_accepted(accounts, asked)
