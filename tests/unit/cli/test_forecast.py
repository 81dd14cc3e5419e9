"""``kubectl pantala plan`` chooses nodes as the operator does, and finds conflicts."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_cli.access.kinds import IMAGE, TASK
from pantala_cli.commands.plan import read
from pantala_cli.errors import CLIError
from pantala_cli.forecast.matching import Match, match
from pantala_cli.forecast.outlook import outlook, picture
from pantala_operator.plan.targets import PeerState, choose
from pantala_operator.resources.api import Node, Target
from tests.support.cli import rendered

KEYS, VALUES = st.sampled_from(["disk", "zone", "gpu"]), st.sampled_from(["a", "b", ""])
EFFECTS = st.sampled_from(["NoSchedule", "PreferNoSchedule", "NoExecute"])
HEALTH = st.sampled_from(["node.kubernetes.io/not-ready", "node.kubernetes.io/unschedulable"])
TAINTS = st.fixed_dictionaries({"key": KEYS | HEALTH, "effect": EFFECTS}, optional={"value": VALUES})
TOLERATIONS = st.fixed_dictionaries(
    {"key": KEYS | HEALTH},
    optional={"operator": st.sampled_from(["Equal", "Exists"]), "value": VALUES, "effect": EFFECTS},
)
NAMES = [f"node-{number}" for number in range(4)]
NODES = st.lists(
    st.fixed_dictionaries(
        {
            "labels": st.dictionaries(KEYS, VALUES),
            "taints": st.lists(TAINTS, max_size=2),
            "unschedulable": st.booleans(),
            "peer": st.sampled_from(["none", "open", "drained"]),
        }
    ),
    max_size=4,
)
TARGETS = st.fixed_dictionaries(
    {},
    optional={
        "nodeSelector": st.dictionaries(KEYS, VALUES, max_size=1),
        "names": st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True),
        "tolerations": st.lists(TOLERATIONS, max_size=2),
        "count": st.integers(1, 5),
    },
)


@given(NODES, TARGETS)
def test_the_same_nodes_as_the_operator(nodes: list[dict[str, Any]], target: dict[str, Any]) -> None:
    bodies = [
        {
            "metadata": {"name": name, "labels": each["labels"]},
            "spec": {"taints": each["taints"], "unschedulable": each["unschedulable"]},
        }
        for name, each in zip(NAMES, nodes, strict=False)
    ]
    peers = {
        name: PeerState(connected=True, unschedulable=each["peer"] == "drained")
        for name, each in zip(NAMES, nodes, strict=False)
        if each["peer"] != "none"
    }
    resources = [
        {"metadata": {"name": name}, "spec": {"unschedulable": each.unschedulable}} for name, each in peers.items()
    ]
    known = {name: msgspec.convert(body, Node) for name, body in zip(NAMES, bodies, strict=False)}
    expected = choose(msgspec.convert(target, Target), "uid", known, peers, frozenset())
    found = match(target, bodies, resources)
    assert len(expected.wanted) == found.expected
    assert set(expected.wanted) <= set(found.nodes)
    if "count" not in target:
        assert (expected.wanted, set(expected.passed_over)) == (found.nodes, set(found.passed_over))


def task(name: str, namespace: str = "default", status: Any = None, **spec: Any) -> dict[str, Any]:
    body = {"metadata": {"name": name, "namespace": namespace}, "spec": {"source": {"url": "https://x/f"}, **spec}}
    return body | {"status": status or {}}


ALL = Match(("a", "b"), None, {"c": "its taint gpu:NoSchedule is not tolerated"})


def test_the_bytes_come_from_a_task_with_the_same_source() -> None:
    found = outlook(TASK, task("new"), None, ALL, [task("old", "team", {"contentLength": 1 << 30})])
    assert ("created", 1 << 30, True) == (found.change, found.each, found.possible)
    shown = rendered(picture(found))
    assert "1Gi for each node, 2Gi for all, from the Task team/old" in shown
    assert "c: its taint gpu:NoSchedule is not tolerated" in shown
    assert None is outlook(TASK, task("new"), None, ALL, []).each


def test_a_path_of_another_task_is_a_conflict() -> None:
    others = [task("old", path="default/models/m")]
    found = outlook(TASK, task("new", path="default/models/m"), None, ALL, others)
    assert ["The path default/models/m belongs to the Task default/old. Choose another spec.path."] == list(
        found.conflicts
    )
    foreign = outlook(TASK, task("new", path="other/m"), None, ALL, [])
    assert "does not begin with default/" in foreign.conflicts[0]
    assert () == outlook(TASK, task("old", path="default/models/m"), others[0], ALL, others).conflicts


def test_images_with_known_sizes() -> None:
    known = {
        "metadata": {"name": "x", "namespace": "n"},
        "spec": {},
        "status": {"images": [{"image": "a:1", "bytes": 7}]},
    }
    wanted: dict[str, Any] = {"metadata": {"name": "y", "namespace": "n"}, "spec": {"images": [{"image": "a:1"}]}}
    assert 7 == outlook(IMAGE, wanted, None, ALL, [known]).each
    wanted["spec"]["images"].append({"image": "b:1"})
    assert "--exact asks the registry" in rendered(picture(outlook(IMAGE, wanted, None, ALL, [known])))


def test_no_node_is_not_possible() -> None:
    assert not outlook(TASK, task("new"), None, Match((), None, {}), []).possible


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "not valid YAML"),
        ("kind: Pod", "no Task and no ImagePrefetch"),
        ("apiVersion: tekton.dev/v1\nkind: Task\nmetadata: {name: x}", "no Task and no ImagePrefetch"),
        ("apiVersion: pantala.dev/v1alpha1\nkind: Task", "no metadata.name"),
    ],
)
def test_a_wrong_file_says_what_to_correct(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(CLIError, match=expected):
        read(str(file))
    with pytest.raises(CLIError, match="cannot be read"):
        read(str(tmp_path / "absent"))


def test_lists_and_several_documents_are_read(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    one = "apiVersion: pantala.dev/v1alpha1\nkind: {0}\nmetadata: {{name: {1}}}\n"
    file.write_text(one.format("Task", "a") + "---\nkind: ConfigMap\n---\n" + one.format("ImagePrefetch", "b"))
    assert [(TASK, "a"), (IMAGE, "b")] == [(kind, body["metadata"]["name"]) for kind, body in read(str(file))]
