"""Requests of Dragonfly's clients are read, and each can name only its own file."""

import json

import pytest

from pantala_protocol import task_id
from pantala_supernode.dragonfly import wire

URL = "http://origin.example/f?a=1&b=2"


def registration(**fields: object) -> wire.Registration:
    return wire.read_registration(json.dumps({"rawUrl": URL, "cid": "c", **fields}).encode())


def test_a_plain_url_is_the_task_of_a_task_resource() -> None:
    assert task_id.compute(URL) == registration().task_id
    assert task_id.compute(URL) == registration(headers=["User-Agent: x", "Accept: */*"]).task_id


def test_whatever_may_decide_access_makes_another_task() -> None:
    variants: list[dict[str, object]] = [
        {},
        {"md5": "0" * 32},
        {"identifier": "i"},
        {"headers": ["Authorization: Bearer a"]},
        {"headers": ["Authorization: Bearer b"]},
        {"headers": ["X-Anything: b"]},
        {"taskUrl": "http://origin.example/f?a=1"},
    ]
    assert len(variants) == len({registration(**variant).task_id for variant in variants})


def test_a_url_with_parameters_left_out_names_another_task() -> None:
    """Otherwise a client could fetch other content under that name."""
    left_out = registration(taskUrl="http://origin.example/f")
    assert task_id.compute("http://origin.example/f") != left_out.task_id
    assert URL == left_out.raw_url


@pytest.mark.parametrize(
    "url", ["http://other.example/f?a=1", "http://origin.example/g", "http://origin.example/f?b=2&a=1"]
)
def test_another_file_cannot_be_named(url: str) -> None:
    with pytest.raises(wire.MalformedRequestError):
        registration(taskUrl=url)


def test_headers_are_joined_without_those_of_the_hop() -> None:
    lines = ["A: 1", "a:2", "Host: x", "Empty:", "Connection: close", "If-None-Match: e", "C:a:b"]
    assert {"a": "1,2", "c": "a:b"} == registration(headers=lines).headers


@pytest.mark.parametrize("path", ["", "relative", "/a b", "/a\r\nX: y", "/" + "a" * 600])
def test_a_client_with_an_invalid_path_is_not_a_provider(path: str) -> None:
    read = registration(port=15000, path=path)
    assert (0, "") == (read.port, read.path)


def test_the_user_s_md5_wins_over_an_identifier() -> None:
    assert ("a" * 32, "") == (
        registration(md5="A" * 32, identifier="i").md5,
        registration(md5="A" * 32, identifier="i").identifier,
    )


@pytest.mark.parametrize(
    ("flag", "expected"), [(True, True), ("true", True), (False, False), ("no", False), (None, False)]
)
def test_flags_are_read_in_any_form(flag: object, expected: bool) -> None:
    assert expected == registration(dfdaemon=flag).dfdaemon


def test_a_first_pull_may_carry_stale_values() -> None:
    pull = wire.read_pull({"srcCid": "c", "dstCid": "d", "range": "x", "result": "502", "status": "700", "taskId": "t"})
    assert wire.PullRequest("c", "t", wire.PieceStatus.STARTED, wire.PieceResult.INVALID, "x", "d") == pull


@pytest.mark.parametrize("query", [{"status": "699"}, {"status": "701", "result": "502"}, {"status": "9" * 30}])
def test_an_invalid_pull_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(wire.MalformedRequestError):
        wire.read_pull(query)


def test_an_envelope_leaves_out_empty_fields() -> None:
    assert {"code": 602} == wire.envelope(wire.Code.WAIT)
    assert {"code": 600, "msg": "m", "data": []} == wire.envelope(wire.Code.FINISHED, "m", [])
