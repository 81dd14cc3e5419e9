"""A Secret is used only as its owner allows: by a label, and for the hosts in an annotation."""

import base64
import json

import msgspec
import pytest

from pantala_operator.events import OperatorEvents
from pantala_operator.plan import statement
from pantala_operator.plan.secrets import Denied, Headers, SecretReading, headers, pull_secret
from pantala_operator.plan.statement import TaskOrigin
from pantala_operator.resources.api import Metadata, Secret, TaskResource
from pantala_operator.resources.status import Obstacle
from pantala_operator.settings import parse
from pantala_operator.watch.observation import Observation
from pantala_operator.watch.secrets import SecretReader
from tests.support.cluster import MemoryClock, MemoryCluster

AUTHS = {"registry.example": {"username": "ann", "password": "hidden"}}
PULL = {".dockerconfigjson": base64.b64encode(json.dumps({"auths": AUTHS}).encode()).decode()}
HEADERS = {"Authorization": base64.b64encode(b"Bearer hidden").decode()}


def secret(label: str | None, data: dict[str, str], hosts: str | None = None) -> Secret:
    labels = {} if label is None else {"pantala.dev/allow": label}
    annotations = {} if hosts is None else {"pantala.dev/hosts": hosts}
    return Secret(Metadata("s", "team", uid="u", labels=labels, annotations=annotations), data)


def refused(found: object) -> str:
    """The message of an obstacle that names a missing permission."""
    assert isinstance(found, Obstacle)
    assert ("SecretForbidden", False) == (found.reason, found.final)
    assert "hidden" not in found.message
    return found.message


@pytest.mark.parametrize("label", [None, "", "images", "Tasks", "tasks,images", "true"])
def test_h4_headers_need_the_label_of_the_secrets_owner(label: str | None) -> None:
    message = refused(headers("team/s", secret(label, HEADERS)))
    assert message.endswith("kubectl label secret s --namespace=team --overwrite pantala.dev/allow=tasks")
    assert isinstance(headers("team/s", secret("tasks", HEADERS)), Headers)


@pytest.mark.parametrize("label", [None, "", "Images", "all"])
def test_h4_pull_secrets_need_the_label_of_the_secrets_owner(label: str | None) -> None:
    message = refused(pull_secret("s", secret(label, PULL)))
    assert message.endswith("kubectl label secret s --namespace=team --overwrite pantala.dev/allow=images")
    for allowed in ("tasks", "images"):
        assert isinstance(pull_secret("s", secret(allowed, PULL)), str)


@pytest.mark.parametrize("key", [".dockerconfigjson", ".dockercfg"])
def test_h4_a_pull_secret_is_never_sent_as_a_header(key: str) -> None:
    found = headers("team/s", secret("tasks", {key: base64.b64encode(b"{}").decode()}))
    assert isinstance(found, Obstacle)
    assert "a pull secret has no headers" in found.message


@pytest.mark.parametrize(
    ("hosts", "url"),
    [
        ("files.corp", "https://files.corp/f"),
        ("files.corp", "http://FILES.corp:8080/f"),
        ("a.example, files.corp", "https://files.corp"),
        ("a.example\nfiles.corp:8443", "https://files.corp:8443/f?x"),
        ("files.corp:443", "https://files.corp/f"),
        ("*.corp", "https://files.corp/f"),
        ("[fd00::1]", "http://[fd00::1]:80/f"),
        ("", "https://anything/f"),
        (None, "https://anything/f"),
    ],
)
def test_h4_headers_are_sent_to_the_hosts_of_the_secret(hosts: str | None, url: str) -> None:
    assert isinstance(headers("team/s", secret("tasks", HEADERS, hosts), url), Headers)


@pytest.mark.parametrize(
    ("hosts", "url"),
    [
        ("files.corp", "https://evil.example/f"),
        ("files.corp", "https://files.corp.evil.example/f"),
        ("files.corp", "https://files.corp@evil.example/f"),
        ("files.corp", "https://evil.example/files.corp"),
        ("files.corp", "https://evil.example?files.corp"),
        ("files.corp", "https://evil.example#@files.corp/"),
        ("files.corp", "https://evil.example\\@files.corp/"),
        ("files.corp", "https://files.corp\\@evil.example/"),
        ("files.corp", "https://files.corp%2f@evil.example/"),
        ("files.corp", "https://fi\tles.corp/f"),
        ("files.corp", "https://files\u3002corp/f"),
        ("files.corp", " https://files.corp/f"),
        ("files.corp:443", "http://files.corp/f"),
        ("files.corp:443", "https://files.corp:8443/f"),
        ("*.corp", "https://corp/f"),
        ("*", "https://files.corp/f"),
        (",", "https://files.corp/f"),
    ],
)
def test_h4_headers_are_sent_to_no_other_host(hosts: str, url: str) -> None:
    message = refused(headers("team/s", secret("tasks", HEADERS, hosts), url))
    assert "pantala.dev/hosts" in message


def test_h4_a_task_with_another_host_gets_no_task_with_headers() -> None:
    body = {
        "metadata": {"name": "t", "namespace": "team", "uid": "t"},
        "spec": {"source": {"url": "https://evil.example/f"}, "headersFrom": {"secretRef": {"name": "s"}}},
    }
    task = msgspec.convert(body, TaskResource)
    refused(statement.origin(task, secret("tasks", HEADERS, "files.corp")))
    assert isinstance(statement.origin(task, secret("tasks", HEADERS, "evil.example")), TaskOrigin)


async def read(labels: dict[str, str], *forbidden: str) -> SecretReading:
    """The operator's reading of a Secret that a Task names."""
    cluster, known = MemoryCluster(), Observation()
    cluster.put("secrets", {"metadata": {"name": "s", "namespace": "team", "labels": labels}, "data": HEADERS})
    cluster.forbidden.update(forbidden)
    known.pull_secrets = frozenset({("team", "s")})
    grant = parse(["--supernode", "http://sn:8002", "--account", "p:op", "--secret-role", "reader"], {}).secret_grant
    reader = SecretReader(cluster, known, OperatorEvents(), MemoryClock(), grant)
    await reader.turn()
    return known.secrets["team", "s"]


async def test_h4_the_operator_keeps_no_content_of_a_secret_without_the_label() -> None:
    for labels in ({}, {"pantala.dev/allow": "other"}):
        found = await read(labels)
        assert isinstance(found, Secret)
        assert {} == found.data


async def test_h4_a_condition_names_the_command_that_lets_the_operator_read() -> None:
    found = await read({}, "get secrets")
    assert (
        Denied("kubectl create rolebinding pantala-secrets --namespace=team --clusterrole=reader --serviceaccount=p:op")
        == found
    )
    assert refused(headers("team/s", found)).endswith("--serviceaccount=p:op")
