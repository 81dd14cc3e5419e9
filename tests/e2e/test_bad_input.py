"""Bad input: a clear condition that says what to do, and never a file at the published path."""

from collections.abc import Callable

import pytest

from pantala_protocol.reasons import Reason
from testbed.cluster import CommandError
from testbed.origin import Behaviour, Generated, Origin
from tests.e2e.environment import Environment
from tests.e2e.kubectl import Kubectl, Resource, condition, eventually
from tests.e2e.release import Release
from tests.e2e.tasks import MIB, manifest, status

_CASES: dict[str, tuple[Callable[[Origin], dict[str, object]], set[Reason]]] = {
    "not-found": (lambda origin: _served(origin, "not-found", Behaviour(status=404)), {Reason.SOURCE_NOT_FOUND}),
    "unauthorized": (
        lambda origin: _served(origin, "unauthorized", Behaviour(status=401)), {Reason.SOURCE_UNAUTHORIZED},
    ),
    "refused": (lambda origin: {"url": f"http://{origin.host}:1/refused"}, {Reason.SOURCE_REFUSED}),
    "host-unknown": (lambda origin: {"url": "http://no-such-host.invalid/file"}, {Reason.SOURCE_HOST_UNKNOWN}),
    "wrong-digest": (
        lambda origin: {**_served(origin, "wrong-digest"), "digest": f"sha256:{'0' * 64}"}, {Reason.DIGEST_MISMATCH},
    ),
    "reset": (
        lambda origin: _served(origin, "reset", Behaviour(reset_after=MIB, ranges=False)),
        {Reason.SOURCE_INTERRUPTED, Reason.LENGTH_MISMATCH},
    ),
    "short": (
        lambda origin: _served(origin, "short", Behaviour(announced=1000, ranges=False)),
        {Reason.LENGTH_MISMATCH, Reason.SOURCE_INTERRUPTED},
    ),
    "no-secret": (
        lambda origin: {**_served(origin, "no-secret"), "headersFrom": {"secretRef": {"name": "missing"}}},
        {Reason.SECRET_MISSING},
    ),
    "no-node": (
        lambda origin: {**_served(origin, "no-node"), "target": {"nodeSelector": {"no-such": "label"}}},
        {Reason.NO_NODE_MATCHES},
    ),
    "outside": (
        lambda origin: {**_served(origin, "outside"), "path": "/etc/cron.d/pantala"}, {Reason.PATH_OUTSIDE_ROOT},
    ),
}  # fmt: skip


def test_each_bad_task_says_what_is_wrong_and_what_to_do(
    environment: Environment, release: Release, kubectl: Kubectl, origin: Origin, namespace: str
) -> None:
    """All at once, so that none waits for another."""
    for name, (spec, _) in _CASES.items():
        given = spec(origin)
        kubectl.apply(manifest(name, namespace, str(given.pop("url")), **given))

    for name, (_, reasons) in _CASES.items():
        eventually(lambda name=name, reasons=reasons: _assert_told(kubectl, name, namespace, reasons), 60)  # type: ignore[misc]
    for node in environment.nodes():
        files = environment.node_files(node)
        assert [] == [file for file in files if file.startswith(f"files/{namespace}/")]


def test_a_slow_origin_is_waited_for(
    environment: Environment, release: Release, kubectl: Kubectl, origin: Origin, namespace: str
) -> None:
    """Slow is no failure: the Task goes on, and nothing is at the published path before it is whole."""
    body = Generated(4 * MIB, seed=30)
    origin.serve("/slow", body, always=Behaviour(rate=MIB / 2))
    kubectl.apply(manifest("slow", namespace, origin.url("/slow")))

    def begun() -> None:
        assert status(kubectl, "slow", namespace).get("pieces", {}).get("cached", 0) > 0

    eventually(begun, 30)
    shown = {node: environment.sha256(node, f"{namespace}/slow") for node in environment.nodes()}
    assert dict.fromkeys(environment.nodes(), "") == shown
    kubectl.wait("task/slow", "Ready", namespace, timeout=60)


def test_an_invalid_spec_is_refused_with_the_field_named(kubectl: Kubectl, release: Release, namespace: str) -> None:
    """By the API server, before anything of Pantala sees it."""
    with pytest.raises(CommandError, match=r"spec\.digest"):
        kubectl.apply(manifest("invalid", namespace, "http://origin.example/file", digest="md5:0"))


def _served(origin: Origin, name: str, behaviour: Behaviour | None = None) -> dict[str, object]:
    origin.serve(f"/bad/{name}", Generated(2 * MIB, seed=31), always=behaviour)
    return {"url": origin.url(f"/bad/{name}")}


def _assert_told(kubectl: Kubectl, name: str, namespace: str, reasons: set[Reason]) -> None:
    task: Resource = kubectl.get("tasks.pantala.dev", name, namespace)
    ready = condition(task, "Ready")
    assert (name, "False") == (name, ready.get("status")), ready
    told = [condition(task, kind) for kind in ("Stalled", "Reconciling")]
    active = [each for each in told if each.get("status") == "True"]
    assert active, f"{name} is neither Stalled nor Reconciling: {told}"
    found = {each["reason"]: each["message"] for each in (ready, *active)}
    right = [reason for reason in reasons if reason in found]
    assert right, f"{name} says {found}, not one of {sorted(reasons)}"
    assert any(reason.action in message for reason in right for message in found.values()), f"{name}: {found}"
