"""Which images an ImagePrefetch means."""

import base64
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_operator.plan.prefetch import pins
from pantala_operator.plan.prefetch.images import MAX_IMAGES, ImageSet, gather, of_template
from pantala_operator.plan.prefetch.inputs import Surroundings, Workload
from pantala_operator.plan.prefetch.pins import MAX_BLOBS
from pantala_operator.plan.prefetch.plan import demand_of
from pantala_operator.resources.api import ALLOW, Metadata, Secret
from pantala_operator.resources.prefetch import ImageKey
from pantala_protocol import image
from pantala_protocol.images import ImageBlob, WantedImage
from pantala_protocol.registry import Resolved
from pantala_protocol.rules.fields import decode
from pantala_protocol.rules.selection import LabelRequirement, LabelSelector
from tests.support.prefetch import AMD64, NOW, ONE, digest, prefetch


def images(around: Surroundings | None = None, **spec: Any) -> ImageSet:
    return gather(demand_of(prefetch(**spec)), around or Surroundings(), {})


def template(*containers: str, secrets: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    spec = {
        "containers": [{"name": f"c{number}", "image": each} for number, each in enumerate(containers)],
        "imagePullSecrets": [{"name": name} for name in secrets],
    }
    return {"spec": spec | more}


def reasons(found: ImageSet) -> list[str]:
    return [each.reason for each in found.problems]


ALIKE = ["one:1", "docker.io/one:1", "docker.io/library/one:1", "index.docker.io/library/one:1"]


@pytest.mark.parametrize(
    ("references", "expected", "problems"),
    [
        ([*ALIKE, "two", "one:1"], [ONE, "docker.io/library/two:latest"], []),
        ([f"one:1@{digest('a')}", f"one@{digest('a')}"], [f"docker.io/library/one@{digest('a')}"], []),
        (["a" * 64, "one:1"], [ONE], ["InvalidImage"]),
    ],
    ids=["several names of one image", "a digest overrides the tag", "an invalid one"],
)
def test_references_become_images(references: list[str], expected: list[str], problems: list[str]) -> None:
    found = images(images=[{"image": each} for each in references])
    assert ([ImageKey(each) for each in expected], problems) == ([*found.secrets], reasons(found))


def long(length: int) -> str:
    """A reference with so many characters."""
    host = ".".join(["r" * 60] * 4)
    return f"{host}/{'a' * (length - len(host) - 3)}:1"


@pytest.mark.parametrize(("length", "accepted"), [(376, True), (377, False), (500, False)])
def test_t2_a_reference_fits_into_a_statement_with_any_digest(length: int, accepted: bool) -> None:
    """A supernode refuses the whole statement for one text that is too long, and so the Tasks of all namespaces."""
    found = images(images=[{"image": long(length)}])
    assert ([] if accepted else ["InvalidImage"], accepted) == (reasons(found), bool(found.secrets))
    for key in found.secrets:
        wanted = WantedImage("ns/n", f"{key.reference}@sha512:{'f' * 128}")
        assert wanted == decode(msgspec.json.encode(wanted), WantedImage)


def test_t2_a_workload_has_no_longer_reference() -> None:
    name = long(500).removesuffix(":1")
    around = Surroundings((Workload("Deployment", "ns", "w", template(f"{name}@{digest('a')}")),))
    found = images(around, **{"from": {"workloadRef": {"kind": "Deployment", "name": "w"}}})
    assert (["InvalidImage"], {}) == (reasons(found), found.secrets)


def test_t2_the_pull_secrets_of_an_image_are_bounded() -> None:
    """A workload can name any number of Secrets, and each request to a registry has those of its image."""
    names = tuple(f"s{number:02}" for number in range(40))
    content = base64.b64encode(b'{"auths": {}}').decode()
    readings = {
        name: Secret(metadata=Metadata(name, "ns", labels={ALLOW: "images"}), data={".dockerconfigjson": content})
        for name in names
    }
    workload = Workload("Deployment", "ns", "web", template("a:1", secrets=names))
    found = gather(demand_of(prefetch(**FOLLOWS)), Surroundings((workload,)), readings)
    assert [32] == [len(each) for each in found.credentials.values()]
    assert ("An image has more than 32 pull secrets. Only the first 32 are used. List fewer.",) == found.secret_faults


def test_h7_a_workload_with_many_images_and_secrets_takes_little_time() -> None:
    """An object of Kubernetes may have 1.5 MiB, and the operator plans for all namespaces."""
    many = range(10_000)
    containers = [{"name": f"c{number}", "image": f"a:{number}"} for number in many]
    pod = {"spec": {"containers": containers, "imagePullSecrets": [{"name": f"s{number}"} for number in many]}}
    began = time.thread_time()
    found = gather(demand_of(prefetch(**FOLLOWS)), Surroundings((Workload("Deployment", "ns", "web", pod),)), {})
    assert time.thread_time() - began < 2
    assert (MAX_IMAGES, ["TooManyImages"]) == (len(found.secrets), reasons(found))
    assert found.secret_faults[0].startswith("An image has more than 32 pull secrets")


@pytest.mark.parametrize(("count", "reason"), [(MAX_BLOBS, ""), (MAX_BLOBS + 1, "InvalidManifest")])
def test_t2_an_answer_with_too_many_blobs_is_a_failure(count: int, reason: str) -> None:
    """A manifest of 4 MiB has 35,000 of them, for each platform and image of each namespace."""
    blobs = tuple(ImageBlob(f"sha256:{number:064}", 1) for number in range(count))
    taken = pins.answer(Resolved(digest("a"), {AMD64: blobs[:1], "linux/arm64": blobs}), [AMD64], NOW, NOW, failures=0)
    assert (reason, 0 if reason else 1 + count) == (
        taken.resolved.reason,
        sum(map(len, taken.resolved.platforms.values())),
    )


def test_another_platform_is_another_image() -> None:
    found = images(images=[{"image": "one:1"}, {"image": "one:1", "platform": "linux/arm64"}])
    assert [ImageKey(ONE), ImageKey(ONE, "linux/arm64")] == [*found.secrets]


def test_a_template_has_images_in_volumes_and_in_both_kinds_of_containers() -> None:
    found = of_template(
        template(
            "main",
            "side",
            initContainers=[{"image": "init"}, {"image": "side"}],
            volumes=[{"image": {"reference": "model"}}, {"emptyDir": {}}],
        )
    )
    assert ("model", "init", "side", "main") == found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["spec", "containers", "image", "volumes", "reference", "x"]), inner)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.just("spec"), JSON))
def test_a_malformed_template_does_no_harm(anything: dict[str, Any]) -> None:
    assert all(isinstance(each, str) for each in of_template(anything))


DEPLOYMENT = Workload("Deployment", "ns", "web", template("one:1", secrets=("own",)))
FOLLOWS: dict[str, Any] = {"from": {"workloadRef": {"kind": "Deployment", "name": "web"}}}


def test_a_workload_brings_its_images_and_secrets() -> None:
    found = images(Surroundings((DEPLOYMENT,)), pullSecrets=["ours"], **FOLLOWS)
    assert {ImageKey(ONE): ("ours", "own")} == found.secrets


@pytest.mark.parametrize(
    "other",
    [
        Workload("StatefulSet", "ns", "web", template("x")),
        Workload("Deployment", "other", "web", template("x")),
        Workload("Deployment", "ns", "other", template("x")),
    ],
)
def test_a_workload_is_found_by_kind_namespace_and_name(other: Workload) -> None:
    found = images(Surroundings((other,)), **FOLLOWS)
    assert ({}, ["WorkloadMissing"]) == (found.secrets, reasons(found))


ELSEWHERE = Workload("DaemonSet", "other", "logs", template("logs:1", secrets=("theirs",)))
NAMESPACES = {"ns": {"team": "a"}, "other": {"team": "b"}}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ({}, {"docker.io/library/one:1": ("own",), "docker.io/library/logs:1": ()}),
        ({"matchLabels": {"team": "b"}}, {"docker.io/library/logs:1": ()}),
        ({"matchLabels": {"team": "c"}}, {}),
    ],
)
def test_other_namespaces_bring_only_images(selector: dict[str, Any], expected: dict[str, tuple[str, ...]]) -> None:
    around = Surroundings((ELSEWHERE, DEPLOYMENT), NAMESPACES, privileged=True)
    found = images(around, **{"from": {"namespaceSelector": selector}})
    assert expected == {key.reference: secrets for key, secrets in found.secrets.items()}


def test_only_the_privileged_follow_other_namespaces() -> None:
    around = Surroundings((ELSEWHERE, DEPLOYMENT), NAMESPACES)
    found = images(around, **{"from": {"namespaceSelector": {}}})
    assert ({}, ["NamespacesForbidden"]) == (found.secrets, reasons(found))


def test_no_image_and_too_many_images_are_reported() -> None:
    empty = Workload("Deployment", "ns", "web", template())
    assert ["NoImage"] == reasons(images(Surroundings((empty,)), **FOLLOWS))
    many = Workload("Deployment", "ns", "web", template(*(f"i{number}" for number in range(300))))
    found = images(Surroundings((many,)), **FOLLOWS)
    assert (256, ["TooManyImages"]) == (len(found.secrets), reasons(found))


@given(st.lists(st.sampled_from([*ALIKE, "two", "two:latest", "r.example/one:1", "UPPER", ""])))
def test_gathered_images_are_normal_and_each_is_there_once(references: list[str]) -> None:
    found = images(images=[{"image": each} for each in references])
    assert [key.reference for key in found.secrets] == [str(image.parse(key.reference)) for key in found.secrets]
    assert len(references) >= len(found.secrets)


LABELS = {"a": "1", "b": ""}


@pytest.mark.parametrize(
    ("operator", "key", "values", "expected"),
    [
        ("In", "a", ("1", "2"), True),
        ("In", "a", ("2",), False),
        ("In", "z", ("1",), False),
        ("NotIn", "a", ("1",), False),
        ("NotIn", "z", ("1",), True),
        ("Exists", "b", (), True),
        ("Exists", "z", (), False),
        ("DoesNotExist", "z", (), True),
        ("DoesNotExist", "a", (), False),
        ("Like", "a", ("1",), False),
    ],
)
def test_selectors_are_those_of_kubernetes(operator: str, key: str, values: tuple[str, ...], expected: bool) -> None:
    wanted = LabelSelector(match_expressions=(LabelRequirement(key, operator, values),))
    assert expected == wanted.matches(LABELS)


def test_a_selector_needs_all_of_its_parts() -> None:
    assert LabelSelector().matches({})
    assert LabelSelector({"a": "1"}, (LabelRequirement("b", "Exists"),)).matches(LABELS)
    assert not LabelSelector({"a": "2"}, (LabelRequirement("b", "Exists"),)).matches(LABELS)
