"""The children of an ImagePrefetch, and the removal of startup taints."""

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_operator.plan.prefetch.children import OWNER_LABEL, ChildTasks
from pantala_operator.plan.prefetch.inputs import OwnedTask
from pantala_operator.plan.prefetch.pins import resolve
from pantala_operator.plan.prefetch.plan import demand_of, plan
from pantala_operator.plan.prefetch.run import Run
from pantala_operator.plan.startup_taint import NodeRights, TaintVote, node_conditions, removable, unknown_vote, vote
from pantala_operator.resources.api import NodeCondition, NodeStatus, Target
from pantala_operator.resources.prefetch import ImageKey, StartupTaint
from pantala_protocol import image
from pantala_protocol.rules.selection import Taint
from tests.support.prefetch import AMD64, NOW, ONE, TWO, cluster, digest, node, prefetch, resolved, schema, world

OWNER = demand_of(prefetch())


def planned(*images: str, platform: str = "", tasks: tuple[OwnedTask, ...] = (), **spec: Any) -> ChildTasks:
    """The Tasks of an ImagePrefetch with resolved images, beside the ``tasks`` that exist."""
    it = world(node("a"), images=[{"image": each, "platform": platform} for each in images], **spec)
    keys = [ImageKey(str(image.parse(each)), platform) for each in images]
    it.answers = {key: resolved("a", platform=platform or AMD64) for key in keys}
    it.children = {task.name: task for task in tasks}
    return plan(it.each, it.observe(), NOW).tasks


def test_a_task_has_tag_and_digest_secrets_and_its_owner() -> None:
    (body,) = planned("one:1", pullSecrets=["s"], retention={"pin": True}).apply
    source = {"image": f"docker.io/library/one:1@{digest('a')}"}
    spec = {"source": source, "depth": "Runtime", "suspend": False, "pullSecrets": ["s"], "retention": {"pin": True}}
    assert spec == body["spec"]
    reference = {"apiVersion": "pantala.dev/v1alpha1", "kind": "ImagePrefetch", "name": "web", "uid": "u"}
    assert [{**reference, "controller": True, "blockOwnerDeletion": False}] == body["metadata"]["ownerReferences"]
    assert ("ns", {OWNER_LABEL: "u"}) == (body["metadata"]["namespace"], body["metadata"]["labels"])


def test_a_task_has_the_digest_and_platform_of_its_image() -> None:
    reference = f"r.example:5000/a@{digest('a')}"
    (body,) = planned(reference, platform="linux/arm64").apply
    assert {"image": reference, "platform": "linux/arm64"} == body["spec"]["source"]


@pytest.mark.parametrize("platform", ["", "linux/arm64"])
def test_a_task_fits_its_schema(platform: str) -> None:
    (body,) = planned("one:1", platform=platform, pullSecrets=["s"], retention={"pin": True}).apply
    schema("tasks", "spec").validate(body["spec"])


def test_tasks_of_other_owners_are_left_alone() -> None:
    (body,) = planned("one:1").apply
    there = (OwnedTask(body["metadata"]["name"], "else", ONE), OwnedTask("stranger", "else", TWO))
    assert ChildTasks() == planned("one:1", tasks=there)
    there = (replace(there[0], owner="u"), OwnedTask("former", "u", TWO))
    assert ((body,), ("former",)) == (planned("one:1", tasks=there).apply, planned("one:1", tasks=there).delete)


REGISTRIES = st.sampled_from(["", "r.example/", "localhost:5000/"])
NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", fullmatch=True).filter(lambda text: ".." not in text)


@given(NAMES, st.sampled_from("abcdef"), REGISTRIES, st.sampled_from(["", "linux/amd64"]))
def test_names_are_valid_and_tell_images_apart(owner: str, letter: str, registry: str, platform: str) -> None:
    key = ImageKey(str(image.parse(f"{registry}a:1")), platform)
    found = task_name(key, letter, name=owner)
    assert len(found) <= 253
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", found)
    assert found == task_name(key, letter, name=owner)
    others = [
        task_name(key, "9", name=owner),
        task_name(key._replace(platform="linux/s390x"), letter, name=owner),
        task_name(ImageKey("r.example/other:1", platform), letter, name=owner),
        task_name(key, letter, name=owner, uid="v"),
    ]
    assert found not in others


def task_name(key: ImageKey, letter: str, **metadata: str) -> str:
    """The name of an image's Task."""
    owner = replace(OWNER, metadata=msgspec.structs.replace(OWNER.metadata, **metadata))
    return resolve(owner, Run(NOW), [key], {key: resolved(letter)})[key].task


KEY = "example.com/images-missing"
STARTUP = StartupTaint(KEY, 600)
NEW = frozenset({"new"})
ALL_KEYS = NodeRights((KEY, "else", "x", "y"))
TAINT = Taint(KEY, "NoSchedule")
UNTIL = NOW + timedelta(seconds=600)
NODES = cluster(node("new", TAINT), node("old"), node("late", TAINT, created=NOW - timedelta(hours=1))).nodes


def test_the_taint_stays_until_the_node_is_ready() -> None:
    found = vote(STARTUP, ["new", "old"], NODES, frozenset(), ALL_KEYS, NOW)
    assert (TaintVote(KEY, keep=NEW, waiting=frozenset({"new", "old"})), UNTIL) == found[:2]
    found = vote(STARTUP, ["new", "old"], NODES, frozenset({"new", "old"}), ALL_KEYS, NOW)
    assert (TaintVote(KEY, release=NEW, ready=frozenset({"new", "old"})), None) == found[:2]


def test_the_taint_is_removed_at_its_deadline() -> None:
    assert TaintVote(KEY, release=NEW, ready=NEW) == vote(STARTUP, ["new"], NODES, frozenset(), ALL_KEYS, UNTIL)[0]
    late = frozenset({"late"})
    assert TaintVote(KEY, release=late, ready=late) == vote(STARTUP, ["late"], NODES, frozenset(), ALL_KEYS, NOW)[0]


def test_the_deadline_is_for_nodes_whose_peer_never_starts_too() -> None:
    """Such a node gets no image, and no pod could ever run there."""
    it = world(node("new", TAINT), node("plain"), completionPolicy="Continuous", startupTaint={"key": KEY})
    it.cluster = replace(it.cluster, peers={})
    made = it.plan()
    assert (TaintVote(KEY, keep=NEW, waiting=NEW), UNTIL) == (made.vote, made.wake_at)
    it.now = UNTIL
    assert TaintVote(KEY, release=NEW, ready=NEW) == it.plan().vote


def test_there_is_no_vote_on_other_nodes_or_deleted_ones() -> None:
    assert (TaintVote(KEY), None) == vote(STARTUP, ["gone"], NODES, NEW, ALL_KEYS, NOW)[:2]


def test_one_vote_keeps_the_taint() -> None:
    one = TaintVote(KEY, release=frozenset({"a", "b"}))
    other = TaintVote(KEY, keep=frozenset({"a"}), release=frozenset({"c"}))
    elsewhere = TaintVote("else", keep=frozenset({"b"}))
    assert {KEY: frozenset({"b", "c"})} == removable([one, other, elsewhere], ALL_KEYS)


VOTERS = st.frozensets(st.sampled_from("abcd"))
VOTES = st.lists(
    st.builds(lambda key, keep, release: TaintVote(key, keep, release - keep), st.sampled_from("xy"), VOTERS, VOTERS)
)


@given(VOTES)
def test_a_removable_taint_is_released_and_not_kept(votes: list[TaintVote]) -> None:
    for key, names in removable(votes, ALL_KEYS).items():
        assert names
        for name in names:
            assert not [each for each in votes if each.key == key and name in each.keep]
            assert [each for each in votes if each.key == key and name in each.release]


@pytest.mark.parametrize(
    ("keys", "key", "allowed"),
    [
        ((), "dedicated", False),
        ((), "startup.pantala.dev/images", False),
        (("startup.pantala.dev/",), "startup.pantala.dev/images", True),
        (("startup.pantala.dev/",), "startup.pantala.device/images", False),
        (("startup.pantala.dev/",), "dedicated", False),
        (("startup.pantala.dev/",), "cilium.io/agent-not-ready", False),
        (("example.com/a",), "example.com/a", True),
        (("example.com/a",), "example.com/ab", False),
    ],
)
def test_h1_only_listed_taints_are_removed(keys: tuple[str, ...], key: str, *, allowed: bool) -> None:
    rights = NodeRights(keys, condition=True)
    assert ({key: NEW} if allowed else {}) == removable([TaintVote(key, release=NEW)], rights)
    said = vote(StartupTaint(key), [], {}, NEW, rights, NOW)[2]
    assert ("True" if allowed else "False") == said.status
    assert allowed or "prefetch.startupTaints" in said.message


def test_h1_a_namespace_cannot_keep_a_new_node_empty_for_a_day() -> None:
    """Only the operator's own namespace may have a long deadline."""
    day = StartupTaint(KEY, 86400)
    created = NODES["new"].metadata.creation_timestamp
    assert created is not None
    for privileged, seconds in ((False, 900), (True, 86400)):
        _, wake, removal = vote(day, ["new"], NODES, frozenset(), ALL_KEYS, NOW, privileged=privileged)
        assert created + timedelta(seconds=seconds) == wake
        assert ("The deadline is 900 s" in removal.message) is not privileged
    assert "900" not in vote(STARTUP, ["new"], NODES, frozenset(), ALL_KEYS, NOW)[2].message


def test_h1_the_node_condition_waits_for_every_vote() -> None:
    both, condition = frozenset({"a", "b"}), NodeCondition("pantala.dev/ImagesReady", "False")
    marked = msgspec.structs.replace(node("left"), status=NodeStatus((condition,)))
    nodes = {"a": node("a"), "b": node("b"), "left": marked, "other": node("other")}
    votes = [TaintVote("x", ready=both), TaintVote("y", waiting=frozenset({"a"}))]
    found = node_conditions(votes, nodes)
    assert {"a": "False", "b": "True", "left": "True"} == {name: each.status for name, each in found.items()}
    found = node_conditions(votes, nodes, [TaintVote("z", waiting=frozenset({"b", "left"}))])
    assert {"a": "False"} == {name: each.status for name, each in found.items()}
    found = node_conditions([], nodes, [TaintVote("z", waiting=frozenset({"b"}), ready=frozenset({"other"}))])
    assert {"other": "True"} == {name: each.status for name, each in found.items()}


def test_an_unknown_vote_holds_all_nodes_until_its_deadline() -> None:
    taint, target, late = StartupTaint(KEY, 86400), Target(names=("late", "old")), frozenset({"late"})
    expected = TaintVote(KEY, keep=NEW, release=late, waiting=frozenset({"new", "old"}), ready=late)
    later = NOW + timedelta(seconds=900)
    assert (expected, later) == unknown_vote(taint, target, NODES, NOW, privileged=False)
    assert (TaintVote(KEY, release=late, ready=late), None) == unknown_vote(
        taint, target, NODES, later, privileged=False
    )
    assert NEW <= unknown_vote(taint, target, NODES, later, privileged=True)[0].keep
