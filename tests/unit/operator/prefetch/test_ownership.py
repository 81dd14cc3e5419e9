"""Any user can write an owner reference. The operator believes it only in Tasks that it would make itself."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from pantala_operator.plan import image_task
from pantala_operator.resources.api import TaskResource
from pantala_operator.resources.conditions import find
from pantala_operator.resources.prefetch import ImageKey, ImagePrefetch, task_name
from tests.support.prefetch import NOW, ONE, ONLY_ONE, World, digest, prefetch, refused, resolved, settled, world

UID = "u"
OTHER = digest("e")


def made(it: World) -> tuple[str, str]:
    """The name and the image of the only child."""
    (child,) = it.children.values()
    return child.name, child.image


def task(
    name: str, image: str, *, uid: str = UID, namespace: str = "ns", group: str = "pantala.dev", **spec: Any
) -> TaskResource:
    owner = {"apiVersion": f"{group}/v1", "kind": "ImagePrefetch", "uid": uid, "controller": True}
    metadata = {"name": name, "namespace": namespace, "uid": "t", "ownerReferences": [owner]}
    body = {"metadata": metadata, "spec": {"source": {"image": image}, "depth": "Runtime", **spec}}
    return msgspec.convert(body, TaskResource)


def believed(each: TaskResource, *known: ImagePrefetch) -> str:
    return image_task.owned(each, {known.metadata.uid: known for known in known or (prefetch(),)}).owner


def test_h5_the_operator_recognises_the_tasks_that_it_made() -> None:
    assert UID == believed(task(*made(settled(images=ONLY_ONE))))


@pytest.mark.parametrize(
    "forge",
    [
        lambda name, image: task(name, f"{ONE}@{OTHER}"),
        lambda name, image: task(name, ONE),
        lambda name, image: task(name, "evil.example/one:1@" + image.partition("@")[2]),
        lambda name, image: task(name, image.replace(":1@", ":2@")),
        lambda name, image: task(name, image, depth="Peer"),
        lambda name, image: task(name, "not an image"),
        lambda name, image: task(f"{name}0", image),
        lambda name, image: task(name, image, uid="another"),
        lambda name, image: task(name, image, group="example.com"),
        lambda name, image: task(name, image, namespace="elsewhere"),
        lambda name, image: task(name, "", source={"url": "http://o/f"}),
    ],
)
def test_h5_a_task_that_a_user_made_is_not_believed(forge: Any) -> None:
    assert "" == believed(forge(*made(settled(images=ONLY_ONE))))


def test_h5_a_forged_digest_is_not_believed_and_ends_nothing() -> None:
    """The name fits to the digest, which is not valid. A plan that believed it could not read the image."""
    owner = prefetch()
    name = task_name(owner.metadata, ImageKey("docker.io/library/one:1", ""), "junk")
    assert "" == believed(task(name, "docker.io/library/one:1@junk"), owner)


def test_h5_a_forged_task_gets_a_condition_that_names_the_way_out() -> None:
    status = image_task.status_of_stranger(task("web-x", f"{ONE}@{OTHER}"), NOW)
    stalled = find(status.conditions, "Stalled")
    assert stalled is not None
    assert ("True", "OwnerMismatch") == (stalled.status, stalled.reason)
    assert "without metadata.ownerReferences" in stalled.message


def test_h5_a_forged_task_in_the_place_of_a_former_child_is_not_stated() -> None:
    """The attack: delete the child of a former digest, and create one of the same name for another image."""
    it = settled(updatePolicy="Follow", completionPolicy="Continuous", images=ONLY_ONE)
    (former,) = it.children
    it.registry[ONE] = resolved("f")
    it.now += timedelta(minutes=11)
    it.outcome = lambda *_: None
    it.turn(4)
    it.children[former] = image_task.owned(task(former, f"{ONE}@{OTHER}"), {UID: it.each})
    for _ in range(3):
        plan = it.turn()
        assert not [each for each in plan.orders.images or () if OTHER in each.image]


def test_h5_a_forged_task_in_the_place_of_a_child_is_in_the_way() -> None:
    name, _ = made(settled(images=ONLY_ONE))
    it = world(images=ONLY_ONE)
    it.children[name] = image_task.owned(task(name, f"{ONE}@{OTHER}"), {UID: it.each})
    it.settle()
    assert ("True", "TaskNameTaken") == it.says("Stalled")


def stated(it: World) -> dict[str, str]:
    """The stated images by Task."""
    plan = it.turn()
    return {each.key.partition("/")[2]: each.image for each in plan.orders.images or ()}


def test_h5_nodes_keep_a_former_digest_without_its_tag() -> None:
    it = settled(updatePolicy="Follow", completionPolicy="Continuous", images=ONLY_ONE)
    (former,) = it.children
    assert {former: f"{ONE}@{digest('a')}"} == stated(it)
    it.registry[ONE] = resolved("e")
    it.now += timedelta(minutes=11)
    it.outcome = lambda *_: None
    it.turn(4)
    images = stated(it)
    assert f"docker.io/library/one@{digest('a')}" == images.pop(former)
    assert [f"{ONE}@{OTHER}"] == list(images.values())


def test_h5_a_pinned_digest_loses_the_tag_once_the_registry_has_moved_it() -> None:
    """Else nodes would bring back the former meaning of a tag that all namespaces share."""
    it = settled(updatePolicy="Pin", completionPolicy="Continuous", images=ONLY_ONE)
    (child,) = it.children
    assert {child: f"{ONE}@{digest('a')}"} == stated(it)
    it.registry[ONE] = resolved("e")
    it.now += timedelta(minutes=11)
    it.turn(4)
    assert {child: f"docker.io/library/one@{digest('a')}"} == stated(it)
    assert ("True", "Prefetched") == it.says("Ready")
    assert ("True", "TagMoved") == it.says("Drifted")


@pytest.mark.parametrize(("reason", "tagged"), [("Unauthorized", False), ("NotFound", False), ("Unreachable", True)])
def test_h5_a_tag_is_not_kept_by_a_secret_that_the_registry_refuses_now(reason: str, tagged: bool) -> None:
    """Else a tenant could hide from the operator that the tag has moved. An outage alone takes no tag away."""
    it = settled(updatePolicy="Pin", completionPolicy="Continuous", images=ONLY_ONE)
    (child,) = it.children
    it.registry[ONE] = refused(reason)
    it.now += timedelta(minutes=11)
    it.turn(4)
    name = ONE if tagged else "docker.io/library/one"
    assert {child: f"{name}@{digest('a')}"} == stated(it)
