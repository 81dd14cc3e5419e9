"""The children of an ImagePrefetch, and the removal of startup taints."""

import re
from dataclasses import replace
from datetime import timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pantala_operator.plan.prefetch.children import OWNER_LABEL, ChildTasks, changes, manifest
from pantala_operator.plan.prefetch.inputs import OwnedTask
from pantala_operator.plan.prefetch.pins import Pin, task_name
from pantala_operator.plan.prefetch.plan import demand_of
from pantala_operator.plan.startup_taint import TaintVote, removable, vote
from pantala_operator.resources.api import Taint
from pantala_operator.resources.prefetch import ImageKey, StartupTaint
from pantala_protocol import image
from tests.support.prefetch import NOW, ONE, TWO, cluster, digest, node, prefetch, schema

OWNER = demand_of(prefetch(), None)
METADATA = OWNER.metadata


def pin(reference: str, letter: str, platform: str = "") -> Pin:
    key = ImageKey(reference, platform)
    return Pin(key, digest(letter), task_name(METADATA, key, digest(letter)), current=True, resolved=NOW)


FIRST = pin(ONE, "a")


def test_a_task_has_tag_and_digest_secrets_and_its_owner() -> None:
    body = manifest(replace(OWNER, pin=True), FIRST, ("s",))
    source = {"image": f"docker.io/library/one:1@{digest('a')}"}
    spec = {"source": source, "depth": "Runtime", "suspend": False, "pullSecrets": ["s"], "retention": {"pin": True}}
    assert spec == body["spec"]
    reference = {"apiVersion": "pantala.dev/v1alpha1", "kind": "ImagePrefetch", "name": "web", "uid": "u"}
    assert [{**reference, "controller": True, "blockOwnerDeletion": False}] == body["metadata"]["ownerReferences"]
    assert ("ns", {OWNER_LABEL: "u"}) == (body["metadata"]["namespace"], body["metadata"]["labels"])


def test_a_task_has_the_digest_and_platform_of_its_image() -> None:
    reference = f"r.example:5000/a@{digest('a')}"
    source = manifest(OWNER, pin(reference, "a", "linux/arm64"), ())["spec"]["source"]
    assert {"image": reference, "platform": "linux/arm64"} == source


def test_a_task_fits_its_schema() -> None:
    for each in (FIRST, pin(ONE, "a", "linux/arm64")):
        schema("tasks", "spec").validate(manifest(replace(OWNER, pin=True), each, ("s",))["spec"])


def test_tasks_of_other_owners_are_left_alone() -> None:
    there = [OwnedTask(FIRST.task, "else", ONE), OwnedTask("stranger", "else", TWO)]
    assert ChildTasks() == changes(OWNER, [FIRST], {FIRST.key: ()}, there, frozenset())


REGISTRIES = st.sampled_from(["", "r.example/", "localhost:5000/"])
NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", fullmatch=True).filter(lambda text: ".." not in text)


@given(NAMES, st.sampled_from("abcdef"), REGISTRIES, st.sampled_from(["", "linux/amd64"]))
def test_names_are_valid_and_tell_images_apart(owner: str, letter: str, registry: str, platform: str) -> None:
    metadata = msgspec.structs.replace(METADATA, name=owner)
    key = ImageKey(str(image.parse(f"{registry}a:1")), platform)
    found = task_name(metadata, key, digest(letter))
    assert len(found) <= 253
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", found)
    others = [
        task_name(metadata, key, digest("9")),
        task_name(metadata, key._replace(platform="linux/s390x"), digest(letter)),
        task_name(metadata, ImageKey("r.example/other:1", platform), digest(letter)),
        task_name(msgspec.structs.replace(metadata, uid="v"), key, digest(letter)),
    ]
    assert found not in others


KEY = "example.com/images-missing"
STARTUP = StartupTaint(KEY, 600)
TAINT = Taint(KEY, "NoSchedule")
UNTIL = NOW + timedelta(seconds=600)
NODES = cluster(node("new", TAINT), node("old"), node("late", TAINT, created=NOW - timedelta(hours=1))).nodes


def test_the_taint_stays_until_the_node_is_ready() -> None:
    found = vote(STARTUP, ["new", "old"], NODES, frozenset(), NOW)
    assert (TaintVote(KEY, keep=frozenset({"new"})), UNTIL) == found
    found = vote(STARTUP, ["new", "old"], NODES, frozenset({"new", "old"}), NOW)
    assert (TaintVote(KEY, release=frozenset({"new"})), None) == found


def test_the_taint_is_removed_at_its_deadline() -> None:
    assert TaintVote(KEY, release=frozenset({"new"})) == vote(STARTUP, ["new"], NODES, frozenset(), UNTIL)[0]
    assert TaintVote(KEY, release=frozenset({"late"})) == vote(STARTUP, ["late"], NODES, frozenset(), NOW)[0]


def test_there_is_no_vote_on_other_nodes_or_deleted_ones() -> None:
    assert (TaintVote(KEY), None) == vote(STARTUP, ["gone"], NODES, frozenset({"new"}), NOW)


def test_one_vote_keeps_the_taint() -> None:
    one = TaintVote(KEY, release=frozenset({"a", "b"}))
    other = TaintVote(KEY, keep=frozenset({"a"}), release=frozenset({"c"}))
    elsewhere = TaintVote("else", keep=frozenset({"b"}))
    assert {KEY: frozenset({"b", "c"})} == removable([one, other, elsewhere])


VOTERS = st.frozensets(st.sampled_from("abcd"))
VOTES = st.lists(
    st.builds(lambda key, keep, release: TaintVote(key, keep, release - keep), st.sampled_from("xy"), VOTERS, VOTERS)
)


@given(VOTES)
def test_a_removable_taint_is_released_and_not_kept(votes: list[TaintVote]) -> None:
    for key, names in removable(votes).items():
        assert names
        for name in names:
            assert not [each for each in votes if each.key == key and name in each.keep]
            assert [each for each in votes if each.key == key and name in each.release]
