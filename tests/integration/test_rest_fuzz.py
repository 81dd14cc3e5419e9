"""The running API and its own document: no request crashes it or gets an undocumented answer."""

import asyncio
import json
import re
import urllib.request
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

from testbed.origin import Generated, Origin
from tests.support.eventually import eventually
from tests.support.supernode_lab import SupernodeProcess

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
"""No operation documents a 500, so these checks find it."""
_BUSY = 0.05
"""The part of the answers that may be 503."""


def fetched(url: str, body: dict[str, Any] | None = None) -> Any:
    """The answer to a GET, or to a POST of ``body``."""
    with urllib.request.urlopen(url, json.dumps(body).encode() if body else None, timeout=5) as answer:
        return json.load(answer)


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


def validate(url: str, file: str) -> None:
    """Send requests for all operations of a supernode and compare the answers with its document."""
    document = schemathesis.openapi.from_dict(fetched(f"{url}/openapi.json"))
    operations = []
    for result in document.get_all_operations():
        assert isinstance(result, Ok)
        operations.append(result.ok())
    assert len(operations) > 20
    ids = known(url, file)
    for operation in sorted(operations, key=lambda operation: operation.method == "delete"):
        fuzz(operation, url, ids.get(operation.path.removeprefix("/api/v1").split("/")[1], []))
    answers = metric(url, "pantala_http_answers_total")
    assert {"200", "201", "204", "400", "404"} <= answers.keys()
    failed = {status: count for status, count in answers.items() if status.startswith("5")}
    # A busy machine may cause a few documented 503. A bug causes a 500.
    assert {"503"} >= failed.keys()
    assert sum(failed.values()) < _BUSY * sum(answers.values())


@pytest.mark.timeout(400)
async def test_every_answer_is_documented(tmp_path: Path) -> None:
    async with Origin() as origin, SupernodeProcess(tmp_path, "--dragonfly", "--metrics-open") as supernode:
        origin.serve("/f", Generated(200_000))
        await supernode.start()
        await eventually(supernode.is_ready)
        await asyncio.to_thread(validate, supernode.url, origin.url("/f"))
        assert supernode.running.returncode is None
        assert "because of a bug" not in supernode.log.read_text()
    assert {"data", "log"} == {path.name for path in tmp_path.iterdir()}


def metric(url: str, name: str) -> dict[str, float]:
    """The samples of a metric by the value of its one label."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
        found = re.findall(name + r'{\w+="(\w+)"} (\S+)', answer.read().decode())
    return {label: float(value) for label, value in found}
