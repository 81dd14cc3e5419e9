"""Wrong values are rejected by name, and each value is documented."""

from typing import Any

import pytest
import yaml

from charts import generate
from tests.chart.rendered import CHART, Helm

WRONG = [
    ("replicas=2", "replicas"),
    ("operator.replicas=-1", "operator/replicas"),
    ('operator.image.registery="r"', "registery"),
    ('image.pullPolicy="Sometimes"', "image/pullPolicy"),
    ('image.registry="https://r/"', "image/registry"),
    ('image.tag="a:b"', "image/tag"),
    ("image.tag=1", "image/tag"),
    ('peer.image.digest="sha256:abc"', "peer/image/digest"),
    ('imagePullSecrets=["a"]', "imagePullSecrets/0"),
    ('crds.enabled="no"', "crds/enabled"),
    ('operator.secretNamespaces="all"', "operator/secretNamespaces"),
    ('operator.secretNamespaces=[""]', "operator/secretNamespaces/0"),
    ("supernode.replicas=-1", "supernode/replicas"),
    ('supernode.replicas="2"', "supernode/replicas"),
    ("supernode.cache.seconds=-1", "supernode/cache/seconds"),
    ("supernode.cache.diskHigh=101", "supernode/cache/diskHigh"),
    ('supernode.rates.origin="fast"', "supernode/rates/origin"),
    ('supernode.shares={"team-a":0}', "supernode/shares/team-a"),
    ('supernode.persistence.size="big"', "supernode/persistence/size"),
    ('supernode.persistence.whenDeleted="Keep"', "supernode/persistence/whenDeleted"),
    ('supernode.persistence.accessModes=["ReadOnlyMany"]', "supernode/persistence/accessModes/0"),
    ('peer.root="/"', "peer/root"),
    ('peer.root="var/lib"', "peer/root"),
    ('peer.root="/var/../etc"', "peer/root"),
    ('peer.root="/var/lib/$(x)"', "peer/root"),
    ("peer.maxUnavailable=0", "peer/maxUnavailable"),
    ('peer.maxUnavailable="half"', "peer/maxUnavailable"),
    ('peer.resources.limit={"memory":"1Gi"}', "limit"),
    ('mirror.registries=["ftp://r"]', "mirror/registries/0"),
    ('mirror.registries=["r/team"]', "mirror/registries/0"),
    ('mirror.registries=["r,s"]', "mirror/registries/0"),
    ('mirror.certsD="certs.d"', "mirror/certsD"),
    ('mirror.certsD="/certs.d"', "mirror/certsD"),
    ('mirror.certsD="/etc/a:b"', "mirror/certsD"),
    ('mirror.cacheSize="10G"', "mirror/cacheSize"),
    ('mirror.authorities={"r":{"secretName":"s"}}', "mirror/authorities/r"),
    ('mirror.authorities={"r=s":{"secretName":"s","key":"k"}}', "mirror/authorities"),
    ('mirror.blobSeconds="long"', "mirror/blobSeconds"),
    ('containerd.socket="unix:///run/containerd.sock"', "containerd/socket"),
    ('containerd.socket="/containerd.sock"', "containerd/socket"),
    ('containerd.content="/"', "containerd/content"),
    ('prefetch.enabled="yes"', "prefetch/enabled"),
    ("prefetch.startupTaints=true", "prefetch/startupTaints"),
    ('prefetch.startupTaints=["*"]', "prefetch/startupTaints/0"),
    ('prefetch.startupTaints=["/"]', "prefetch/startupTaints/0"),
    ('sources.allowed=["10.0.0.0/8,a"]', "sources/allowed/0"),
    ('sources.denied=["corp"]', "sources/denied/0"),
    ('peer.extraArgs="--a"', "peer/extraArgs"),
]


@pytest.mark.parametrize(("value", "named"), WRONG)
def test_a_wrong_value_is_rejected_by_name(helm: Helm, value: str, named: str) -> None:
    result = helm("template", "pantala", str(CHART), "--set-json", value)
    assert result.returncode != 0
    assert named in result.stderr


def test_an_account_that_is_not_created_must_be_named(helm: Helm) -> None:
    result = helm("template", "pantala", str(CHART), "--set", "peer.serviceAccount.create=false")
    assert result.returncode != 0
    assert "peer.serviceAccount.name is empty" in result.stderr


def test_every_value_is_documented() -> None:
    text = (CHART / "values.yaml").read_text()
    page = generate.values_page(text)
    undocumented = [path for path in leaves("", yaml.safe_load(text)) if not covered(path, page)]
    assert undocumented == []


def leaves(path: str, value: Any) -> list[str]:
    if isinstance(value, dict) and value:
        return [leaf for key, inner in value.items() for leaf in leaves(f"{path}.{key}".removeprefix("."), inner)]
    return [path]


def covered(path: str, page: str) -> bool:
    """True if the page has a row for the value or for a map around it."""
    parts = path.split(".")
    return any(f"| `{'.'.join(parts[:end])}` |" in page for end in range(1, len(parts) + 1))


def test_generated_files_are_up_to_date() -> None:
    """Run ``make crds`` if it fails."""
    stale = [path.name for path, text in generate.outputs().items() if not path.exists() or path.read_text() != text]
    assert stale == []
