"""The values files for platforms are valid, and their pages name the same folders."""

import functools
import json
import re
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from pantala_peer.containerd import command
from tests.chart.rendered import CHART, Helm, Object, Rendered

DOCS = CHART.parents[1] / "docs" / "install"
FILES = sorted((CHART / "values").glob("*.yaml"))
PLATFORMS = {"kind", "k3s", "rke2", "eks", "gke", "aks", "openshift", "talos"}
BOUNDS = "SecurityContextConstraints"
FOREIGN = {BOUNDS, "SourcePolicy"}
"""Kinds that Kubernetes itself does not know."""


@functools.cache
def rendered(helm: Helm, file: Path, *more: str) -> Rendered:
    done = helm("template", "pantala", str(CHART), "--namespace=pantala", f"--values={file}", *more)
    assert 0 == done.returncode, done.stderr
    return Rendered(each for each in yaml.load_all(done.stdout, yaml.CSafeLoader) if each)


def values(file: Path) -> Object:
    found: Object = yaml.safe_load(file.read_text())
    return found


def test_each_platform_has_a_values_file_and_a_page_and_the_index_names_them() -> None:
    assert PLATFORMS == {file.stem for file in FILES} == {page.stem for page in DOCS.glob("*.md")} - {"index"}
    index = (DOCS / "index.md").read_text()
    for name in PLATFORMS:
        assert f"]({name}.md) | `values/{name}.yaml`" in index


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_values_of_a_platform_render_valid_objects(helm: Helm, file: Path) -> None:
    jsonschema.validate(values(file), json.loads((CHART / "values.schema.json").read_text()))
    objects = rendered(helm, file)
    assert {"Deployment", "StatefulSet", "DaemonSet"} <= {each["kind"] for each in objects}
    for each in objects:
        if each["kind"] not in FOREIGN:
            kubernetes_validate.validate(each, "1.34.0", strict=each["kind"] != "CustomResourceDefinition")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_page_of_a_platform_names_the_folders_of_its_values(file: Path) -> None:
    page, given = (DOCS / f"{file.stem}.md").read_text(), values(file)
    places = [given["mirror"].get("certsD"), given["containerd"]["socket"], given["containerd"].get("content")]
    assert [] == [place for place in places if place and f"`{place}`" not in page]
    assert f"values/{file.name}" in page
    for heading in ("## What to set", "## What does not work"):
        assert heading in page


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_peers_configure_and_mount_the_folder_of_the_platform(helm: Helm, file: Path) -> None:
    more = () if values(file)["mirror"].get("enabled", True) else ("--set=mirror.enabled=true",)
    objects, given = rendered(helm, file, *more), values(file)
    peer = objects.pods["peer"]["spec"]
    folder = given["mirror"].get("certsD", str(command._CERTS_D[0])).split(":")[0]
    assert folder == objects.flags("peer/mirror")["certs-d"].split(":")[0]
    mounted = {each["mountPath"] for each in objects.container("peer/mirror")["volumeMounts"]}
    assert str(Path(folder).parent) in mounted
    paths = {each["hostPath"]["path"] for each in peer["volumes"] if "hostPath" in each}
    assert {str(Path(folder).parent), str(Path(given["containerd"]["socket"]).parent)} <= paths


def test_openshift_chooses_the_users_except_that_of_the_peers(helm: Helm) -> None:
    objects = rendered(helm, CHART / "values" / "openshift.yaml")
    for name in ("operator", "supernode", "uninstall", "growth"):
        context = objects.pods[name]["spec"]["securityContext"]
        assert {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}} == context
    peer = objects.pods["peer"]["spec"]["securityContext"]
    assert (65532, 65532, "spc_t") == (peer["runAsUser"], peer["fsGroup"], peer["seLinuxOptions"]["type"])


def test_the_constraints_for_openshift_allow_what_the_peers_use_and_no_more(helm: Helm) -> None:
    objects = rendered(helm, CHART / "values" / "openshift.yaml")
    bounds, peer = objects.one(BOUNDS), objects.pods["peer"]["spec"]
    assert ["system:serviceaccount:pantala:pantala-peer"] == bounds["users"]
    kinds = {kind for volume in peer["volumes"] for kind in volume if kind != "name"}
    assert {kind for kind in bounds["volumes"] if kind != "secret"} == kinds
    added = {
        each for _, one, _ in objects.containers() for each in one["securityContext"]["capabilities"].get("add", ())
    }
    assert set(bounds["allowedCapabilities"]) == added
    ports = [port for each in peer["containers"] for port in each.get("ports", ()) if "hostPort" in port]
    assert (bool(ports), bool(peer.get("hostNetwork"))) == (bounds["allowHostPorts"], bounds["allowHostNetwork"])
    assert not bounds["allowPrivilegedContainer"]


def test_the_tables_of_the_pages_agree_with_the_page_about_the_mirror() -> None:
    """``docs/mirror.md`` has the folders of k3s in a table, too."""
    table = (DOCS.parent / "mirror.md").read_text()
    given = values(CHART / "values" / "k3s.yaml")
    for place in (given["mirror"]["certsD"], given["containerd"]["socket"], given["containerd"]["content"]):
        assert re.search(re.escape(f"`{place}`"), table)
