"""One rule of names: the CRD has it from the code, and both sides accept and refuse the same paths."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_operator.plan.paths import PublishedPaths
from pantala_operator.resources.api import Metadata, TaskResource, TaskSource, TaskSpec
from pantala_operator.resources.status import Obstacle
from pantala_peer.cache.publisher import components
from pantala_peer.errors import OutsideRootError
from pantala_protocol.rules import names
from pantala_protocol.rules.names import SharedPath
from pantala_supernode.dragonfly import wire
from tests.support.crds import schema
from tests.support.names import ACCEPTED, REFUSED

SPEC = schema("tasks")["properties"]["spec"]["properties"]
PATH, URL = SPEC["path"], SPEC["source"]["properties"]["url"]
SECRETS = SPEC["headersFrom"]["properties"]["secretRef"]["properties"]["name"], SPEC["pullSecrets"]["items"]
_MATCH = re.compile(r"!self\.matches\(r'(.*)'\)")
_SIZES = re.compile(r"self\.split\('/'\)\.all\(name, size\(bytes\(name\)\) <= ([0-9]+)\)")


def crd_accepts(path: str) -> bool:
    r"""The schema's answer. Its patterns are of RE2, and only ``\x{...}`` differs from Python."""
    return PATH["minLength"] <= len(path) <= PATH["maxLength"] and all(
        _holds(rule, path) for rule in PATH["x-kubernetes-validations"]
    )


def _holds(rule: dict[str, Any], path: str) -> bool:
    if (match := _SIZES.fullmatch(rule["rule"])) is not None:
        return all(len(name.encode()) <= int(match[1]) for name in path.split("/"))
    match = _MATCH.fullmatch(rule["rule"])
    assert match is not None, rule
    assert "\\u" not in match[1], "RE2 does not know it"
    return re.search(re.sub(r"\\x\{([0-9a-f]{4})\}", r"\\u\1", match[1]), path) is None


@pytest.mark.parametrize("path", ACCEPTED)
def test_a_name_is_accepted_by_all(path: str) -> None:
    assert crd_accepts(path)
    assert names.fault(path) is None
    assert path.split("/") == components(path)
    paths = PublishedPaths("/var/lib/pantala", [SharedPath(namespace="ns", prefix=path)])
    assert path == paths.of(task(path))
    assert path == paths.of(task(f"/var/lib/pantala/{path}"))


@pytest.mark.parametrize("path", REFUSED)
def test_a_name_is_refused_by_all(path: str) -> None:
    assert not crd_accepts(path)
    with pytest.raises(OutsideRootError, match=r"^The path .* must "):
        components(path)
    found = PublishedPaths("/root").of(task(f"/root/{path}"))
    assert isinstance(found, Obstacle)
    assert ("PathOutsideRoot", True) == (found.reason, found.final)


def task(path: str) -> TaskResource:
    return TaskResource(Metadata("t", "ns"), TaskSpec(TaskSource("http://o/f"), path=path))


@given(st.text(max_size=30).filter(lambda path: not path.startswith("/")))
def test_both_sides_agree_on_any_text(path: str) -> None:
    assert crd_accepts(path) is (names.fault(path) is None)


@given(
    st.lists(
        st.sampled_from(["", ".", "..", ".pantala-x", "a", "é" * 127, "é" * 128, "\u2028", "\u200d", "\x85"]),
        min_size=1,
        max_size=6,
    )
)
def test_both_sides_agree_on_parts(parts: list[str]) -> None:
    path = "/".join(parts)
    assert (crd_accepts(path) and not path.startswith("/")) is (names.fault(path) is None)


def test_text_that_is_not_unicode_is_refused() -> None:
    """The API server cannot be given it: its JSON is UTF-8."""
    assert "must be text" == names.fault("a\ud800")


@pytest.mark.parametrize(("length", "accepted"), [(100, True), (2300, True), (8192, True), (8193, False)])
def test_a_url_has_one_limit(length: int, accepted: bool) -> None:
    url = "http://bucket.s3.example/f?X-Amz-Signature=".ljust(length, "a")
    assert accepted is (len(url) <= URL["maxLength"])
    values = {"rawurl": url, "cid": "c", "ip": "10.0.0.1", "port": 80, "path": "/c", "headers": []}
    if accepted:
        assert url == wire.check_registration(values).raw_url
    else:
        with pytest.raises(wire.MalformedRequestError, match="URL"):
            wire.check_registration(values)


@pytest.mark.parametrize("accepted", ["a", "registry-login", "a.b-c.0", "x" * 253])
def test_h4_the_name_of_a_secret_is_accepted_by_all(accepted: str) -> None:
    assert names.is_object(accepted)
    assert [True, True] == [_takes(schema, accepted) for schema in SECRETS]


@pytest.mark.parametrize(
    "refused", ["", "../../other/secrets/x", "a/b", "A", "a_b", "-a", "a-", ".", "a..b", "a.-b", "a\n", "é", "x" * 254]
)
def test_h4_the_name_of_a_secret_is_refused_by_all(refused: str) -> None:
    assert not names.is_object(refused)
    assert [False, False] == [_takes(schema, refused) for schema in SECRETS]


def _takes(schema: dict[str, Any], name: str) -> bool:
    (rule,) = schema["x-kubernetes-validations"]
    match = re.fullmatch(r"self\.matches\(r'\^(.*)\$'\)", rule["rule"])
    assert match is not None
    return schema["minLength"] <= len(name) <= schema["maxLength"] and re.fullmatch(match[1], name) is not None
