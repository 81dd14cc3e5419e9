"""Which registrations of dfget are accepted, and how their URLs and headers are read."""

import json
import time
from typing import Any

import pytest

from pantala_supernode.dragonfly import wire

URL = "http://origin.example/f"
SIGN = "4711-1600000000.123"
DFGET: dict[str, Any] = {
    "superNodeIp": "supernode.example",
    "rawUrl": URL,
    "taskUrl": URL,
    "cid": f"10.0.0.1-{SIGN}",
    "ip": "10.0.0.1",
    "hostName": "node",
    "port": 15000,
    "path": f"/peer/file/f-{SIGN}",
    "version": "1.0.6",
}
"""What dfget sends. Each case changes one field; ``None`` leaves it out."""

BAD: dict[str, dict[str, object]] = {
    "no path": {"path": None},
    "an empty path": {"path": ""},
    "a path that is a list": {"path": [None]},
    "a relative path": {"path": "peer/file/f"},
    "a path of two lines": {"path": "/peer/file/f\r\nHost: x"},
    "no cid": {"cid": None},
    "an empty cid": {"cid": ""},
    "a cid with a blank": {"cid": "10.0.0.1 4711"},
    "a cid of two lines": {"cid": "10.0.0.1-4711\n"},
    "a cid that cuts the query": {"cid": "a&taskId=b"},
    "a cid with an escape": {"cid": "a%20b"},
    "a cid with a slash": {"cid": "../a"},
    "a cid in Chinese": {"cid": "客户"},
    "a cid that is too long": {"cid": "c" * 257},
    "a cid that is a list": {"cid": ["c"]},
    "no ip": {"ip": None},
    "an empty ip": {"ip": ""},
    "an ip of three numbers": {"ip": "10.0.1"},
    "an ip with a large number": {"ip": "10.0.0.256"},
    "an ip with a blank": {"ip": "10.0.0.1 "},
    "an ip with a port": {"ip": "10.0.0.1:80"},
    "an ip with a zone": {"ip": "fe80::1%eth0"},
    "a host name as ip": {"ip": "localhost"},
    "a number as ip": {"ip": 167772161},
    "no port": {"port": None},
    "an empty port": {"port": ""},
    "a negative port": {"port": -1},
    "a port above 65535": {"port": 65536},
    "a huge port": {"port": 10**30},
    "a port that is a word": {"port": "http"},
    "a port that is a fraction": {"port": 15000.5},
    "a port that is a flag": {"port": True},
    "no URL": {"rawUrl": None},
    "an empty URL": {"rawUrl": ""},
    "a URL that is a number": {"rawUrl": 1},
    "ftp": {"rawUrl": "ftp://origin.example/f", "taskUrl": "ftp://origin.example/f"},
    "file": {"rawUrl": "file:///etc/passwd", "taskUrl": "file:///etc/passwd"},
    "no scheme": {"rawUrl": "origin.example/f", "taskUrl": "origin.example/f"},
    "another scheme for the task": {"taskUrl": "oss://origin.example/f"},
    "no host": {"rawUrl": "http:///f", "taskUrl": "http:///f"},
    "a port without a host": {"rawUrl": "http://:80/f", "taskUrl": "http://:80/f"},
    "a URL with a wrong port": {"rawUrl": "http://h:70000/f", "taskUrl": "http://h:70000/f"},
    "a host with a blank": {"rawUrl": "http://a b/f", "taskUrl": "http://a b/f"},
    "an open bracket": {"rawUrl": "http://[::1/f", "taskUrl": "http://[::1/f"},
    "a URL of two lines": {"rawUrl": f"{URL}\r\nX: y", "taskUrl": f"{URL}\r\nX: y"},
    "a URL that is too long": {"rawUrl": URL + "a" * 9000, "taskUrl": URL + "a" * 9000},
    "another file": {"taskUrl": "http://origin.example/g"},
    "another host": {"taskUrl": "http://other.example/f"},
    "another parameter": {"rawUrl": f"{URL}?x=1", "taskUrl": f"{URL}?x=2"},
    "an md5 that is none": {"md5": "no"},
    "an md5 in upper case": {"md5": "A" * 32},
    "headers that are no list": {"headers": {"a": 1}},
    "a header of two lines": {"headers": ["A: b\r\nC: d"]},
    "a header name with a blank": {"headers": ["A b: c"]},
    "endless headers": {"headers": ["a:b"] * 130_000},
    "an endless host": {"rawUrl": "http://" + "é." * 70_000, "taskUrl": None},
    "a part of a file": {"headers": ["Range: bytes=0-1"]},
}

GOOD: dict[str, dict[str, object]] = {
    "dfget": {},
    "dfget without an uploader": {"port": 0},
    "the least and the most port": {"port": 65535},
    "a port as text": {"port": "15000"},
    "an IPv6 address": {"ip": "fd00::1", "cid": f"fd00::1-{SIGN}"},
    "no task URL": {"taskUrl": None},
    "no version": {"version": None},
    "a file name with a blank": {"path": f"/peer/file/my file-{SIGN}"},
    "a file name in Chinese": {"path": f"/peer/file/文件-{SIGN}"},
    "https in capitals": {"rawUrl": "HTTPS://origin.example/f", "taskUrl": "HTTPS://origin.example/f"},
    "an IPv6 origin": {"rawUrl": "http://[fd00::1]:8080/f", "taskUrl": "http://[fd00::1]:8080/f"},
    "a parameter left out": {"rawUrl": f"{URL}?a=1&t=文", "taskUrl": f"{URL}?a=1"},
    "a signed URL": {"rawUrl": f"{URL}?X-Amz-Signature={'a' * 2300}", "taskUrl": URL},
    "headers": {"headers": ["Authorization: Bearer a", "X-Empty:", "User-Agent:x"]},
    "an md5": {"md5": "a" * 32},
    "certificates": {"insecure": True, "rootCAs": ["YQ=="]},
}


def read(changes: dict[str, object]) -> wire.Registration:
    fields = {name: value for name, value in (DFGET | changes).items() if value is not None}
    return wire.read_registration(json.dumps(fields).encode())


def typed(url: str) -> wire.Registration:
    """A registration with the URL as a user types it."""
    return read({"rawUrl": url, "taskUrl": url})


@pytest.mark.parametrize("case", BAD)
def test_a_bad_registration_is_refused(case: str) -> None:
    began = time.thread_time()
    with pytest.raises(wire.MalformedRequestError):
        read(BAD[case])
    assert time.thread_time() - began < 0.3


@pytest.mark.parametrize("case", GOOD)
def test_a_good_registration_is_accepted(case: str) -> None:
    assert (DFGET | GOOD[case])["cid"] == read(GOOD[case]).cid


@pytest.mark.parametrize("path", [f"/peer/file/my file-{SIGN}", f"/peer/file/文件-{SIGN}", "/" + "a" * 600])
def test_a_client_with_a_path_that_no_peer_can_request_is_not_a_provider(path: str) -> None:
    assert (0, "") == (read({"path": path}).port, read({"path": path}).path)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (URL, URL),
        ("http://h/文件.tar", "http://h/%E6%96%87%E4%BB%B6.tar"),
        ("http://h/my file.tar", "http://h/my%20file.tar"),
        ("http://h/a%20b%2Fc", "http://h/a%20b%2Fc"),
        ("http://h/%E6%96%87 件", "http://h/%E6%96%87%20%E4%BB%B6"),
        ("http://h/f?q=文 件&s=a%2Bb+c", "http://h/f?q=%E6%96%87%20%E4%BB%B6&s=a%2Bb+c"),
        ("http://h/a\u3000b\u202fc\u00a0d", "http://h/a%E3%80%80b%E2%80%AFc%C2%A0d"),
        ("http://h/100%|{}~", "http://h/100%|{}~"),
        ("http://h/f ", "http://h/f%20"),
        ("http://例子.example:8080/f", "http://xn--fsqu00a.example:8080/f"),
    ],
)
def test_what_may_not_stand_in_a_url_is_encoded_and_the_rest_stays(url: str, expected: str) -> None:
    assert (expected, expected) == (typed(url).raw_url, typed(url).url)


def test_a_url_names_the_same_task_encoded_or_not() -> None:
    assert typed("http://h/my%20file").task_id == typed("http://h/my file").task_id


def test_dfdaemon_gets_the_whole_file_for_a_range() -> None:
    """It would refuse the engine's request, or answer 200 with the bytes of the range. HTTP allows the whole file."""
    whole, part = read({"dfdaemon": True}), read({"dfdaemon": True, "headers": ["Range: bytes=5-", "If-Range: x"]})
    assert (whole.headers, whole.task_id) == (part.headers, part.task_id)


def test_header_names_keep_the_user_s_spelling() -> None:
    lines = ["X-tOKEN: a", "x-token: b", "accept: text", "ETag-Like:c"]
    assert {"X-tOKEN": "a,b", "accept": "text", "ETag-Like": "c"} == read({"headers": lines}).headers


def test_the_spelling_of_a_header_makes_no_other_task() -> None:
    assert read({"headers": ["AUTHORIZATION: a"]}).task_id == read({"headers": ["authorization: a"]}).task_id
    assert read({"headers": ["pragma: x"]}).task_id == read({"headers": ["user-AGENT: x"]}).task_id
