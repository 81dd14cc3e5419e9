"""The trial of ``helm test``: it waits for Ready, names the cause of a failure, and leaves nothing."""

import asyncio
import errno
import socket
import urllib.request
from typing import Any

import pytest

from pantala_operator.errors import ClusterNotFoundError
from pantala_operator.hooks import trial
from pantala_operator.hooks.trial import Trial, TrialError, TrialObject, prefetch, serving, task
from tests.support.eventually import eventually

READY = {"type": "Ready", "status": "True", "reason": "Distributed", "message": "3 of 3 nodes have the file"}
STALLED = {"type": "Stalled", "status": "True", "reason": "SourceDenied", "message": "Write a SourcePolicy"}
WANTED = TrialObject("Task", "tasks", {"source": {"url": "http://x"}})


class Answers:
    """An API server that gives the resource one status after the other."""

    def __init__(self, *statuses: list[dict[str, str]]) -> None:
        self.statuses = list(statuses)
        self.exists = False
        self.created: list[Any] = []

    async def __call__(self, method: str, path: str, **more: Any) -> Any:
        if method == "post":
            self.created.append(more["body"])
            self.exists = True
        elif not self.exists:
            raise ClusterNotFoundError("not found")
        elif method == "delete":
            self.exists = False
        else:
            conditions = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
            return {"status": {"conditions": conditions}}
        return {}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_INTERVAL", 0.001)


async def test_it_returns_what_the_condition_says_and_leaves_nothing() -> None:
    answers = Answers([], [STALLED], [READY])
    answers.exists = True  # an earlier trial was killed
    assert "3 of 3 nodes have the file" in await Trial(answers, "ns", "pantala-test", 5).run(WANTED)
    (body,) = answers.created
    assert ("Task", "pantala-test", WANTED.spec) == (body["kind"], body["metadata"]["name"], body["spec"])
    assert not answers.exists


@pytest.mark.parametrize(
    ("conditions", "words"), [([STALLED], "SourceDenied: Write a SourcePolicy"), ([], "the log of the operator")]
)
async def test_a_failure_names_the_cause_and_leaves_nothing(conditions: list[dict[str, str]], words: str) -> None:
    answers = Answers(conditions)
    with pytest.raises(TrialError, match=words):
        await Trial(answers, "ns", "pantala-test", 0.02).run(WANTED)
    assert not answers.exists


async def test_a_trial_that_is_stopped_leaves_nothing() -> None:
    answers = Answers([STALLED])
    running = asyncio.create_task(Trial(answers, "ns", "pantala-test", 60).run(WANTED))
    await eventually(lambda: answers.exists)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not answers.exists


def urlopen(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5) as answer:
        content: bytes = answer.read()
    return content


async def test_the_file_is_served_by_a_kernel_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_ipv4(family: int = socket.AF_INET, *more: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return opened(family, *more)

    opened = socket.socket
    with monkeypatch.context() as patched:
        patched.setattr(socket, "socket", only_ipv4)
        with serving(b"content", 0) as server:
            patched.undo()
            assert b"content" == await asyncio.to_thread(urlopen, f"http://127.0.0.1:{server.server_port}/file")


async def test_the_file_is_served_and_its_digest_is_in_the_task() -> None:
    with serving(b"content", 0) as server:
        for number, host in enumerate(("[::1]", "127.0.0.1"), 1):
            url = f"http://{host}:{server.server_port}/file"
            body = await asyncio.to_thread(urlopen, url)
            assert (b"content", number) == (body, server.reads)
    digest = "sha256:ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
    assert {"source": {"url": url}, "digest": digest} == task(url, b"content").spec


def test_a_prefetch_names_pull_secrets_only_if_there_are_some() -> None:
    assert {"images": [{"image": "a"}]} == prefetch("a", []).spec
    assert {"images": [{"image": "a"}], "pullSecrets": ["s"]} == prefetch("a", ["s"]).spec
