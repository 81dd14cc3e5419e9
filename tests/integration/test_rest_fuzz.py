"""The running API and its own document: no request crashes it or gets an undocumented answer."""

import contextlib
import json
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from testbed.origin import Generated
from testbed.process import Process, free_ports
from tests.support.eventually import eventually_blocking
from tests.support.origin_thread import OriginThread

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
"""No operation documents a 500, so these checks find it."""


def fetched(url: str, body: dict[str, Any] | None = None) -> Any:
    """The answer to a GET, or to a POST of ``body``."""
    with urllib.request.urlopen(url, json.dumps(body).encode() if body else None, timeout=5) as answer:
        return json.load(answer)


@contextlib.contextmanager
def supernode(folder: Path) -> Iterator[str]:
    """A supernode as a process, so that it answers while examples are made."""
    port, piece_port = free_ports(2)
    url = f"http://127.0.0.1:{port}"
    command = [
        *(sys.executable, "-m", "pantala_supernode", "--no-auth", "--dragonfly", "--metrics-open"),
        *("--data", str(folder / "data"), "--listen", f"127.0.0.1:{port}", "--piece-listen", f"127.0.0.1:{piece_port}"),
    ]
    with Process(command, folder / "log") as process:
        eventually_blocking(lambda: fetched(f"{url}/readyz"), ignoring=urllib.error.URLError, what=process.tail)
        yield url
        assert process.returncode is None, process.tail()
    assert 0 == process.returncode


def known(url: str, file: str) -> dict[str, list[str]]:
    """Known IDs of a task, a peer and a preheat, by the first part of their paths."""
    peer = fetched(f"{url}/peers", {"IP": "127.0.0.1", "hostName": "host", "port": 15001})["ID"]
    task = fetched(f"{url}/tasks", {"cID": "c1", "rawURL": file, "path": "/f", "peerID": peer})["ID"]
    preheat = fetched(f"{url}/preheats", {"type": "file", "url": file, "identifier": "another"})["ID"]
    return {"peers": [peer], "tasks": [task], "preheats": [preheat], "copies": [task]}


def fuzz(operation: APIOperation[Any, Any, Any, Any], url: str, there: list[str]) -> None:
    """Send valid and invalid requests for an operation, half of them with a known ID."""

    @given(case=st.one_of([operation.as_strategy(mode) for mode in GenerationMode]), pick=st.booleans())
    @settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def ask(case: Case[Any], pick: bool) -> None:
        for name in ("id", "task_id"):
            if pick and there and name in case.path_parameters:
                case.path_parameters[name] = there[0]
        case.call_and_validate(base_url=url, checks=CHECKS, timeout=20)

    ask()


@pytest.mark.timeout(180)
def test_every_answer_is_documented(tmp_path: Path) -> None:
    with OriginThread("127.0.0.1") as origin, supernode(tmp_path) as url:
        origin.serve("/f", Generated(200_000))
        document = schemathesis.openapi.from_dict(fetched(f"{url}/openapi.json"))
        operations = []
        for result in document.get_all_operations():
            assert isinstance(result, Ok)
            operations.append(result.ok())
        assert len(operations) > 20
        ids = known(url, origin.url("/f"))
        for operation in sorted(operations, key=lambda operation: operation.method == "delete"):
            fuzz(operation, url, ids.get(operation.path.removeprefix("/api/v1").split("/")[1], []))
        statuses = metric(url, "pantala_http_answers_total")
    assert {"200", "201", "204", "400", "404"} <= statuses
    assert not {status for status in statuses if status.startswith("5")}
    assert "a request failed" not in (tmp_path / "log").read_text()
    assert {"data", "log"} == {path.name for path in tmp_path.iterdir()}


def metric(url: str, name: str) -> set[str]:
    """The values of a metric's one label."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
        return set(re.findall(name + r'{\w+="(\w+)"}', answer.read().decode()))
