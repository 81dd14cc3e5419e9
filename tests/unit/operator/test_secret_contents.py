"""What the operator reads from the contents of Secrets: headers and pull secrets."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_operator.plan.secrets import Absent, Denied, Headers, SecretReading, Unread, headers, pull_secret
from pantala_operator.resources.api import Metadata, Secret
from pantala_operator.resources.status import Obstacle

ALLOWED = {"pantala.dev/allow": "tasks"}


def secret(**data: bytes) -> Secret:
    return Secret(
        Metadata("s", "ns", uid="secret-uid", labels=ALLOWED),
        {key.replace("_", "-"): base64.b64encode(value).decode() for key, value in data.items()},
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            secret(Authorization=b"Bearer t", X_Tenant=b"caf\xe9"),
            {"Authorization": "Bearer t", "X-Tenant": "caf\u00e9"},
        ),
        (secret(Authorization=b"Basic eA==\n"), {"Authorization": "Basic eA=="}),
    ],
    ids=["names and lines", "the last newline of a file"],
)
def test_keys_are_names_and_values_are_lines(content: Secret, expected: dict[str, str]) -> None:
    assert Headers(expected, "secret-uid") == headers("ns/s", content)


RESERVED = (
    *("Host", "Range", "If_Range", "if_none_match", "Accept_Encoding", "Content_Length", "Connection", "TE"),
    *("Transfer_Encoding", "Upgrade", "Keep_Alive", "Proxy_Authorization", "Expect"),
)
NOT_ONE_LINE = (b"a\nb", b"a\r\nX-Evil: 1", b"a\0b", b"\x7f", b"x" * 20_000, b"\n\n")
NOT_HEADERS: list[dict[str, str]] = [{"a.b c": "eA=="}, {"": "eA=="}, {"A": "%"}, {"a": "eA==", "A": "eA=="}, {}]


@pytest.mark.parametrize(
    "content",
    [
        *(secret(**{key: b"x"}) for key in RESERVED),
        *(secret(Authorization=value) for value in NOT_ONE_LINE),
        *(Secret(Metadata("s", labels=ALLOWED), data) for data in NOT_HEADERS),
    ],
)
def test_headers_are_refused_that_are_not_valid_or_would_change_the_request_itself(content: Secret) -> None:
    read = headers("ns/s", content)
    assert isinstance(read, Obstacle)
    assert ("SecretInvalid", False, False) == (read.reason, read.final, "Evil" in read.message)


@pytest.mark.parametrize(("count", "accepted"), [(6, True), (7, False), (100, False)])
def test_h10_the_headers_of_a_task_are_bounded_together(count: int, accepted: bool) -> None:
    """A Secret may have 1 MiB. Some Tasks with such headers would make the statement of all namespaces too large."""
    read = headers("ns/s", secret(**{f"X_{number}": b"x" * 10_000 for number in range(count)}))
    assert accepted == isinstance(read, Headers)
    assert accepted or (isinstance(read, Obstacle) and "more than 65536 bytes" in read.message)


def test_why_there_are_no_headers() -> None:
    assert Unread() == headers("ns/s", Unread())
    absent, denied = headers("ns/s", Absent()), headers("ns/s", Denied("kubectl create x"))
    assert isinstance(absent, Obstacle)
    assert isinstance(denied, Obstacle)
    assert ("SecretMissing", "SecretForbidden") == (absent.reason, denied.reason)
    assert "kubectl create x" in denied.message


@given(st.binary(max_size=200))
def test_no_value_can_end_a_header(value: bytes) -> None:
    read = headers("ns/s", secret(X=value))
    if isinstance(read, Headers):
        assert not set(read.values["X"]) & {"\r", "\n", "\0"}


AUTHS = {"registry.example": {"username": "ann", "password": "hidden"}}


def docker(**data: object) -> Secret:
    encoded = {
        f".{key}": value if isinstance(value, str) else base64.b64encode(json.dumps(value).encode()).decode()
        for key, value in data.items()
    }
    return Secret(Metadata("s", labels=ALLOWED), encoded)


@pytest.mark.parametrize(
    "data", [{"dockerconfigjson": {"auths": AUTHS, "credsStore": "x"}}, {"dockercfg": AUTHS}], ids=["new", "legacy"]
)
def test_both_kinds_of_pull_secrets_become_one(data: dict[str, object]) -> None:
    config = pull_secret("s", docker(**data))
    assert isinstance(config, str)
    assert {"auths": AUTHS} == json.loads(config)


NOT_TEXT = b'{"auths":{"a.b":{"auth":"hidden\xff"}}}'
NOT_ONE, ACTION = "The Secret s is not a pull secret: it", "Create it with kubectl create secret docker-registry."


@pytest.mark.parametrize(
    ("reading", "reason", "starts", "ends"),
    [
        (docker(other={}), "SecretInvalid", NOT_ONE, ACTION),
        (docker(dockerconfigjson="not base64 of hidden"), "SecretInvalid", NOT_ONE, ACTION),
        (docker(dockerconfigjson=base64.b64encode(b"hidden").decode()), "SecretInvalid", NOT_ONE, ACTION),
        (docker(dockerconfigjson={"registry.example": "hidden"}), "SecretInvalid", NOT_ONE, ACTION),
        (docker(dockerconfigjson={"auths": {"registry.example": "hidden"}}), "SecretInvalid", NOT_ONE, ACTION),
        (docker(dockercfg=["hidden"]), "SecretInvalid", NOT_ONE, ACTION),
        (docker(dockerconfigjson=base64.b64encode(NOT_TEXT).decode()), "SecretInvalid", NOT_ONE, ACTION),
        (Absent(), "SecretMissing", "The Secret s is missing", "in this namespace. Create it."),
        (Denied("kubectl x"), "SecretForbidden", "The operator may not read the Secret s. ", "run: kubectl x"),
    ],
)
def test_an_unusable_pull_secret_is_not_quoted(reading: SecretReading, reason: str, starts: str, ends: str) -> None:
    found = pull_secret("s", reading)
    assert isinstance(found, Obstacle)
    assert (reason, True, True) == (found.reason, found.message.startswith(starts), found.message.endswith(ends))
    assert "hidden" not in found.message
