"""The Tasks of an ImagePrefetch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pantala_operator.plan.prefetch.children import OWNER_LABEL, Child, family, manifest, name
from pantala_operator.plan.prefetch.pins import Pin
from pantala_operator.resources.prefetch import ImageKey
from pantala_protocol import image
from tests.unit.operator.prefetch.world import NOW, ONE, TWO, digest, prefetch

ROOT = Path(__file__).resolve().parents[4]
FIRST = Pin(ImageKey(ONE), digest("a"), current=True, resolved=NOW)
SECOND = Pin(ImageKey(TWO), digest("b"), current=True, resolved=NOW)
MOVED = Pin(ImageKey(ONE), digest("c"), current=True, resolved=NOW)
SECRETS: dict[ImageKey, tuple[str, ...]] = {FIRST.key: ("s",), SECOND.key: ()}
OWNER = prefetch()


def child(pin: Pin, owner: str = "u", **changes: Any) -> Child:
    spec = manifest(OWNER, pin, ())["spec"]["source"]
    return Child(changes.get("name", name(OWNER, pin)), owner, spec["image"])


def test_one_task_for_each_image() -> None:
    found = family(OWNER, [FIRST, SECOND, Pin(ImageKey("r.example/x:1"))], SECRETS, [], frozenset())
    assert {FIRST.key, SECOND.key} == found.names.keys()
    assert [*found.names.values()] == [each["metadata"]["name"] for each in found.apply]
    assert ((), ()) == (found.delete, found.taken)


def test_a_task_has_tag_and_digest_secrets_and_its_owner() -> None:
    body = manifest(prefetch(retention={"pin": True}), FIRST, ("s",))
    source = {"image": f"docker.io/library/one:1@{digest('a')}"}
    spec = {"source": source, "depth": "Runtime", "suspend": False, "pullSecrets": ["s"], "retention": {"pin": True}}
    assert spec == body["spec"]
    reference = {"apiVersion": "pantala.dev/v1alpha1", "kind": "ImagePrefetch", "name": "web", "uid": "u"}
    assert [{**reference, "controller": True, "blockOwnerDeletion": False}] == body["metadata"]["ownerReferences"]
    assert ("ns", {OWNER_LABEL: "u"}) == (body["metadata"]["namespace"], body["metadata"]["labels"])


def test_a_task_of_a_digest_has_no_tag_and_one_of_a_platform_names_it() -> None:
    key = ImageKey(f"r.example:5000/a@{digest('a')}", "linux/arm64")
    source = manifest(OWNER, Pin(key, digest("a")), ())["spec"]["source"]
    assert {"image": key.reference, "platform": "linux/arm64"} == source


def test_a_task_fits_its_schema() -> None:
    crd = yaml.safe_load((ROOT / "crds" / "pantala.dev_tasks.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    for pin in (FIRST, Pin(ImageKey(ONE, "linux/arm64"), digest("a"))):
        spec = manifest(prefetch(retention={"pin": True}), pin, ("s",))["spec"]
        jsonschema.validate(spec, schema)
        assert set(spec) <= set(schema["properties"])


def test_the_task_of_a_former_digest_stays_until_all_nodes_have_the_new_one() -> None:
    old = child(FIRST)
    assert () == family(OWNER, [MOVED], {MOVED.key: ()}, [old], frozenset()).delete
    assert (old.name,) == family(OWNER, [MOVED], {MOVED.key: ()}, [old], frozenset({MOVED.key})).delete


def test_the_task_of_an_image_that_is_no_longer_wanted_goes() -> None:
    old = child(SECOND)
    assert (old.name,) == family(OWNER, [FIRST], {FIRST.key: ()}, [child(FIRST), old], frozenset()).delete


def test_tasks_of_others_are_left_alone() -> None:
    rival, stranger = child(FIRST, owner="else"), child(SECOND, owner="else", name="stranger")
    found = family(OWNER, [FIRST], SECRETS, [rival, stranger], frozenset())
    assert ((rival.name,), (), ()) == (found.taken, found.apply, found.delete)


REGISTRIES = st.sampled_from(["", "r.example/", "localhost:5000/"])
NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", fullmatch=True).filter(lambda text: ".." not in text)


@given(NAMES, st.sampled_from("abcdef"), REGISTRIES, st.sampled_from(["", "linux/amd64"]))
def test_names_are_valid_and_say_which_image_it_is(owner: str, letter: str, registry: str, platform: str) -> None:
    each = msgspec.structs.replace(OWNER, metadata=msgspec.structs.replace(OWNER.metadata, name=owner))
    pin = Pin(ImageKey(str(image.parse(f"{registry}a:1")), platform), digest(letter))
    found = name(each, pin)
    assert len(found) <= 253
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", found)
    assert found == name(each, pin)
    others = [
        Pin(pin.key, digest("9")),
        Pin(pin.key._replace(platform="linux/s390x"), pin.digest),
        Pin(ImageKey("r.example/other:1", platform), pin.digest),
    ]
    successor = msgspec.structs.replace(each, metadata=msgspec.structs.replace(each.metadata, uid="v"))
    assert found not in {name(successor, pin), *(name(each, other) for other in others)}
