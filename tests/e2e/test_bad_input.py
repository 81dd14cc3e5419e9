"""Bad input: a clear condition names the remedy, and no file appears at the published path."""

from collections.abc import Callable

from pantala_protocol.reasons import Reason
from testbed.origin import Behaviour, Generated, Origin
from tests.e2e.case import MIB, Case, passes

_DIGEST = f"sha256:{'0' * 64}"
_CASES: dict[str, tuple[Callable[[Origin, str], dict[str, object]], set[Reason]]] = {
    "not-found": (lambda origin, name: _served(origin, name, status=404), {Reason.SOURCE_NOT_FOUND}),
    "unauthorized": (lambda origin, name: _served(origin, name, status=401), {Reason.SOURCE_UNAUTHORIZED}),
    "refused": (lambda origin, name: {"url": f"http://{origin.host}:1/{name}"}, {Reason.SOURCE_REFUSED}),
    "host-unknown": (lambda _, name: {"url": f"http://no-such-host.invalid/{name}"}, {Reason.SOURCE_HOST_UNKNOWN}),
    "wrong-digest": (lambda origin, name: _served(origin, name) | {"digest": _DIGEST}, {Reason.DIGEST_MISMATCH}),
    "reset": (
        lambda origin, name: _served(origin, name, reset_after=MIB, ranges=False),
        {Reason.SOURCE_INTERRUPTED, Reason.LENGTH_MISMATCH},
    ),
    "short": (
        lambda origin, name: _served(origin, name, announced=1000, ranges=False),
        {Reason.LENGTH_MISMATCH, Reason.SOURCE_INTERRUPTED},
    ),
    "no-secret": (
        lambda origin, name: _served(origin, name) | {"headersFrom": {"secretRef": {"name": "missing"}}},
        {Reason.SECRET_MISSING},
    ),
    "no-node": (
        lambda origin, name: _served(origin, name) | {"target": {"nodeSelector": {"no-such": "label"}}},
        {Reason.NO_NODE_MATCHES},
    ),
    "outside": (
        lambda origin, name: _served(origin, name) | {"path": "/etc/cron.d/pantala"},
        {Reason.PATH_OUTSIDE_ROOT},
    ),
}


def test_each_bad_task_names_the_cause_and_the_remedy(case: Case, origin: Origin) -> None:
    """All Tasks run at once, so that none waits for another."""
    for name, (spec, _) in _CASES.items():
        given = spec(origin, name)
        case.apply(case.task(name, str(given.pop("url")), **given))

    for name, (_, reasons) in _CASES.items():
        passes(lambda name=name, reasons=reasons: _assert_explained(case, name, reasons))  # type: ignore[misc]
    for node in case.nodes:
        files = case.environment.node_files(node)
        assert [] == [file for file in files if file.startswith(f"files/{case.namespace}/")]


def test_a_slow_origin_is_not_a_failure(case: Case, origin: Origin) -> None:
    """The download continues. Nothing is published before the file is complete."""
    origin.serve("/slow", Generated(4 * MIB, seed=30), always=Behaviour(rate=MIB / 2))
    case.apply(case.task("slow", origin.url("/slow")))
    case.cached("slow", 0.01)
    files = {node: case.environment.sha256(node, f"{case.namespace}/slow") for node in case.nodes}
    assert dict.fromkeys(case.nodes, "") == files
    case.ready("task/slow", timeout=60)


def _served(origin: Origin, name: str, **behaviour: object) -> dict[str, object]:
    origin.serve(f"/bad/{name}", Generated(2 * MIB, seed=31), always=Behaviour(**behaviour))  # type: ignore[arg-type]
    return {"url": origin.url(f"/bad/{name}")}


def _assert_explained(case: Case, name: str, reasons: set[Reason]) -> None:
    ready = case.condition(f"task/{name}", "Ready")
    assert (name, "False") == (name, ready.get("status")), ready
    causes = [case.condition(f"task/{name}", kind) for kind in ("Stalled", "Reconciling")]
    active = [each for each in causes if each.get("status") == "True"]
    assert active, f"{name} is neither Stalled nor Reconciling: {causes}"
    found = {each["reason"]: each["message"] for each in (ready, *active)}
    right = [reason for reason in reasons if reason in found]
    assert right, f"{name} has {found}, not one of {sorted(reasons)}"
    assert any(reason.action in message for reason in right for message in found.values()), f"{name}: {found}"
