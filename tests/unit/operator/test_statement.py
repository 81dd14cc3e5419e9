"""What the supernode must do for a Task."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from pantala_operator.plan import statement
from pantala_operator.plan.secrets import Absent, Unread
from pantala_operator.plan.statement import PathClaim, TaskOrigin
from pantala_operator.plan.targets import Targets
from pantala_operator.resources.api import Metadata, Secret, TaskResource
from pantala_operator.resources.status import Obstacle
from pantala_protocol import task_id

ROOT = "/var/lib/pantala/files"
PRIVATE: dict[str, Any] = {"headersFrom": {"secretRef": {"name": "s"}}}
URL = "https://origin.example/f?sig=1&v=2"


def task(namespace: str = "ns", status: dict[str, Any] | None = None, **spec: Any) -> TaskResource:
    metadata = {"name": "t", "namespace": namespace, "uid": "u", "generation": 3}
    body = {"metadata": metadata, "spec": {"source": {"url": URL}, **spec}, "status": status or {}}
    return msgspec.convert(body, TaskResource)


def named(each: TaskResource, credentials: str = "s1") -> str:
    secret = Secret(Metadata("s", uid=credentials), {"Authorization": "eA=="})
    origin = statement.origin(each, secret)
    assert isinstance(origin, TaskOrigin)
    return origin.task_id


def test_public_tasks_are_shared_by_the_cluster_and_others_within_their_namespace_and_secret() -> None:
    assert task_id.compute(URL) == named(task("one")) == named(task("two"))
    one, two = (task(namespace, **PRIVATE) for namespace in ("one", "two"))
    assert 4 == len({named(task("one")), named(one), named(two), named(one, "s2")})
    assert named(one) == named(task("one", path="p", **PRIVATE))


def test_filtered_parameters_do_not_name_the_task_but_are_sent() -> None:
    each = task(filterQueryParams=["sig"])
    assert task_id.compute("https://origin.example/f?v=2") == named(each)
    wanted = statement.wanted(each, TaskOrigin(named(each), {}), "ns/t", Targets(("a",)), suspended=False)
    assert wanted is not None
    assert URL == wanted.url


def test_an_image_is_not_a_file() -> None:
    obstacle = statement.origin(task(source={"image": "busybox"}), Unread())
    assert isinstance(obstacle, Obstacle)
    assert ("SourceUnsupported", True) == (obstacle.reason, obstacle.final)
    assert statement.wanted(task(source={"image": "busybox"}), obstacle, "", Targets(), suspended=False) is None


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, "ns/t"),
        ({"path": "models/a.bin"}, "models/a.bin"),
        ({"path": f"{ROOT}/models/a.bin"}, "models/a.bin"),
        ({"depth": "Supernode"}, ""),
        ({"path": "/etc/passwd"}, None),
        ({"path": ROOT}, None),
        ({"path": f"{ROOT}/"}, None),
        ({"path": f"{ROOT}//etc"}, None),
        ({"path": f"{ROOT}-other/x"}, None),
        ({"path": "../x"}, None),
        ({"path": f"{ROOT}/../../x"}, None),
        ({"path": "a//b"}, None),
        ({"path": "a/./b"}, None),
        ({"path": "a/"}, None),
    ],
)
def test_paths_stay_below_the_root(spec: dict[str, Any], expected: str | None) -> None:
    path = statement.path(task(**spec), ROOT)
    if expected is None:
        assert isinstance(path, Obstacle)
        assert ("PathOutsideRoot", True) == (path.reason, path.final)
    else:
        assert expected == path


def test_the_attempt_changes_with_the_spec_and_with_a_request() -> None:
    each = task()
    assert "3/" == each.attempt
    asked = msgspec.structs.replace(
        each, metadata=msgspec.structs.replace(each.metadata, annotations={"pantala.dev/requested-at": "now"})
    )
    assert "3/now" == asked.attempt


def test_a_task_without_its_secret_keeps_its_copies_and_gets_nothing_more() -> None:
    """Else the loss of a Secret would take files off nodes."""
    each = task(**PRIVATE, status={"taskID": "f" * 64})
    obstacle = statement.origin(each, Absent())
    wanted = statement.wanted(each, obstacle, "ns/t", Targets(("a",)), suspended=False)
    assert wanted is not None
    assert ("f" * 64, {}, True, ("a",)) == (wanted.task_id, wanted.headers, wanted.suspended, wanted.peers)
    fresh = task(**PRIVATE)
    assert statement.wanted(fresh, obstacle, "ns/t", Targets(("a",)), suspended=False) is None


def claim(uid: str, minute: int, *nodes: str, path: str = "p", content: str = "") -> PathClaim:
    return PathClaim(
        uid, f"ns/{uid}", path, content or uid, frozenset(nodes), datetime(2026, 1, 1, 0, minute, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    ("rival", "wins"),
    [
        (claim("r", 0, "a"), True),
        (claim("r", 2, "a"), False),
        (claim("r", 0, "b"), False),
        (claim("r", 0, "a", path="q"), False),
        (claim("r", 0, "a", content="mine"), False),
        (claim("a", 1, "a"), True),
        (claim("z", 1, "a"), False),
    ],
    ids=["older", "younger", "other node", "other path", "same content", "same age, first name", "same age, last name"],
)
def test_the_older_task_has_the_path(rival: PathClaim, wins: bool) -> None:
    mine = claim("m", 1, "a", content="mine")
    assert (rival if wins else None) == statement.winner(mine, {"m": mine, rival.uid: rival})
