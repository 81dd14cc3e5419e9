"""Hooks of the chart: larger volumes before an upgrade, and the trial of ``helm test``."""

import pytest

from tests.chart.rendered import Object, Render, Rendered


def hooks(objects: Rendered, kind: str) -> list[Object]:
    """The objects of one kind of hook."""
    return [each for each in objects if kind in annotations(each).get("helm.sh/hook", "").split(",")]


def annotations(each: Object) -> dict[str, str]:
    found: dict[str, str] = each["metadata"].get("annotations", {})
    return found


@pytest.mark.parametrize(
    ("growth", "hook"), [("Auto", "pre-rollback"), ("Always", "pre-upgrade,pre-rollback"), ("Never", None)]
)
def test_the_volumes_grow_before_an_upgrade_and_a_rollback(render: Render, growth: str, hook: str | None) -> None:
    """Without a cluster, Helm sees no difference of sizes."""
    objects = render(f'supernode.persistence.growth="{growth}"')
    found = {each["kind"] for each in objects if annotations(each).get("helm.sh/hook") == hook is not None}
    assert ({"ServiceAccount", "Role", "RoleBinding", "Job"} if hook else set()) == found
    assert (hook is None) == ("growth" not in objects.pods)


@pytest.mark.parametrize("values", ["supernode.persistence.enabled=false", 'supernode.persistence.existingClaim="a"'])
def test_volumes_that_the_chart_does_not_make_do_not_grow(render: Render, values: str) -> None:
    assert [] == hooks(render(values), "pre-rollback")


def test_the_hook_names_the_statefulset_and_the_size_and_may_do_nothing_else(render: Render) -> None:
    objects = render('supernode.persistence.size="75Gi"', namespace="elsewhere")
    name = next(each for each in objects if each["kind"] == "StatefulSet")["metadata"]["name"]
    flags = objects.flags("growth/growth")
    assert (f"elsewhere/{name}", "75Gi") == (flags["statefulset"], flags["size"])
    (role,) = [each for each in hooks(objects, "pre-rollback") if each["kind"] == "Role"]
    rights = {
        (resource, verb): rule.get("resourceNames")
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert {
        ("statefulsets", "get"): [name],
        ("statefulsets", "delete"): [name],
        ("persistentvolumeclaims", "list"): None,
        ("persistentvolumeclaims", "patch"): None,
    } == rights
    assert objects.pods["growth"]["spec"]["serviceAccountName"] == role["metadata"]["name"]


def test_rights_come_before_the_pods_of_hooks_and_all_go_afterwards(render: Render) -> None:
    for kind in ("pre-rollback", "test"):
        found = hooks(render(), kind)
        assert {"Role", "RoleBinding", "ServiceAccount"} < {each["kind"] for each in found}
        for each in found:
            runs = each["kind"] in {"Job", "Pod"}
            assert ("0" if runs else "-1") == annotations(each)["helm.sh/hook-weight"]
            gone = {"before-hook-creation", "hook-succeeded", "hook-failed"}
            assert gone == set(annotations(each)["helm.sh/hook-delete-policy"].split(","))


def trial(objects: Rendered) -> Object:
    (found,) = (each for each in hooks(objects, "test") if each["kind"] == "Pod")
    return found


def test_the_trial_may_read_only_its_own_pod_and_touch_only_its_own_resources(render: Render) -> None:
    objects = render(namespace="elsewhere")
    pod = trial(objects)
    (container,) = pod["spec"]["containers"]
    (policy,) = (each for each in hooks(objects, "test") if each["kind"] == "SourcePolicy")
    (service,) = (each for each in hooks(objects, "test") if each["kind"] == "Service")
    assert {"hosts": ["pantala-test.elsewhere.svc"], "ports": [8090]} == policy["spec"]
    assert "--url=http://pantala-test.elsewhere.svc:8090/file" in container["command"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    (role,) = (each for each in hooks(objects, "test") if each["kind"] == "Role")
    created, others = role["rules"]
    assert ["create"] == created["verbs"]
    assert (["pantala-test"], ["get", "delete"]) == (others["resourceNames"], others["verbs"])
    assert pod["spec"]["activeDeadlineSeconds"] > 2 * 120


@pytest.mark.parametrize(
    ("values", "image"),
    [
        ((), "pantala/peer:"),
        (('test.image="r.example/app@sha256:1"',), "r.example/app@sha256:1"),
        (("test.pull=false",), None),
        (("prefetch.enabled=false",), None),
    ],
)
def test_the_trial_pulls_an_image_that_the_nodes_have(
    render: Render, values: tuple[str, ...], image: str | None
) -> None:
    (container,) = trial(render(*values))["spec"]["containers"]
    given = [word.removeprefix("--image=") for word in container["command"] if word.startswith("--image=")]
    assert ([] if image is None else [True]) == [word.startswith(image or "") for word in given]


def test_the_trial_uses_pull_secrets(render: Render) -> None:
    (container,) = trial(render('test.pullSecrets=["a","b"]'))["spec"]["containers"]
    assert ["--pull-secret=a", "--pull-secret=b"] == container["command"][-2:]
