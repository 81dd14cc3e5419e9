"""What the values set for a proxy, for private authorities, and for IPv6."""

import json

import pytest

from tests.chart.rendered import CHART, Helm, Object, Render

PROXY = 'proxy={"url":"http://proxy.corp:3128","noProxy":["corp","10.0.0.0/8"],"credentialsSecret":"login"}'
AUTHORITIES = (
    'authorities={"files.corp":{"secretName":"ca","key":"ca.crt"},"*":{"configMapName":"roots","key":"all.pem"}}'
)


def volumes(pod: Object) -> dict[str, Object]:
    return {each["name"]: each for each in pod["spec"]["volumes"]}


def mounts(container: Object) -> dict[str, str]:
    return {each["name"]: each["mountPath"] for each in container["volumeMounts"]}


def test_without_values_there_is_no_proxy_and_no_authority(render: Render) -> None:
    objects = render()
    flags = objects.flags("supernode/supernode")
    assert not {"proxy", "no-proxy", "proxy-credentials", "origin-ca"} & flags.keys()
    assert ("8", "300") == (flags["origin-connections"], flags["origin-first-byte"])
    assert not [name for name in volumes(objects.pods["supernode"]) if name.startswith(("proxy", "origin"))]


def test_only_the_supernode_uses_the_proxy_and_its_credentials_come_from_a_secret(render: Render) -> None:
    objects = render(PROXY, 'proxy.credentialsKey="basic"')
    flags = objects.flags("supernode/supernode")
    assert ("http://proxy.corp:3128", "corp,10.0.0.0/8") == (flags["proxy"], flags["no-proxy"])
    secret = volumes(objects.pods["supernode"])["proxy"]["secret"]
    folder = mounts(objects.container("supernode/supernode"))["proxy"]
    assert ("login", [{"key": "basic", "path": "credentials"}]) == (secret["secretName"], secret["items"])
    assert f"{folder}/credentials" == flags["proxy-credentials"]
    mounted = objects.container("supernode/supernode")["volumeMounts"]
    assert not [each for each in mounted if "subPath" in each], "a mounted part of a Secret never changes"
    for name, _, _ in objects.containers():
        assert name == "supernode/supernode" or not any("proxy" in flag for flag in objects.flags(name)), name


def test_names_of_the_cluster_are_never_asked_through_the_proxy(render: Render) -> None:
    assert "svc,cluster.local" == render('proxy.url="http://p:1"').flags("supernode/supernode")["no-proxy"]
    assert "no-proxy" not in render('proxy={"url":"http://p:1","noProxy":[]}').flags("supernode/supernode")


def test_authorities_come_from_secrets_and_configmaps(render: Render) -> None:
    objects = render(AUTHORITIES)
    flag = objects.flags("supernode/supernode")["origin-ca"]
    given = dict(part.split("=") for part in flag.split(","))
    found = volumes(objects.pods["supernode"])
    where = mounts(objects.container("supernode/supernode"))
    everywhere, files = found["origin-authority-0"]["configMap"], found["origin-authority-1"]["secret"]
    assert ("roots", "all.pem") == (everywhere["name"], everywhere["items"][0]["key"])
    assert ("ca", "ca.crt") == (files["secretName"], files["items"][0]["key"])
    assert {"*": f"{where['origin-authority-0']}/ca", "files.corp": f"{where['origin-authority-1']}/ca"} == given


def test_numbers_of_origins_are_values(render: Render) -> None:
    flags = render("supernode.originConnections=1", "supernode.originFirstByteSeconds=900").flags("supernode/supernode")
    assert ("1", "900") == (flags["origin-connections"], flags["origin-first-byte"])


@pytest.mark.parametrize(
    "value",
    [
        'proxy.url="http://ann:secret@proxy:3128"',
        'proxy.url="socks5://proxy:1080"',
        'proxy.url="proxy:3128"',
        'proxy.noProxy=["a,b"]',
        'proxy.noProxy="a"',
        'proxy.password="x"',
        'authorities={"a":{"key":"ca.crt"}}',
        'authorities={"a":{"secretName":"s","configMapName":"c","key":"ca.crt"}}',
        'authorities={"a":{"secretName":"s"}}',
        'authorities={"a=b":{"secretName":"s","key":"k"}}',
        'authorities={"a,b":{"secretName":"s","key":"k"}}',
        "supernode.originConnections=0",
        "supernode.originConnections=65",
        "supernode.originFirstByteSeconds=0",
        'peer.hostNetwork="yes"',
    ],
)
def test_invalid_values_are_refused(helm: Helm, value: str) -> None:
    json.loads(value.partition("=")[2] if not value.startswith("authorities") else value.removeprefix("authorities="))
    assert helm("template", "p", str(CHART), "--set-json", value).returncode != 0


def test_every_process_listens_for_both_families(render: Render) -> None:
    objects = render()
    listening = {
        f"{name} {flag}": value
        for name, _, _ in objects.containers()
        for flag, value in objects.flags(name).items()
        if flag.endswith("listen") and flag != "console-listen" and not value.startswith("unix:")
    }
    assert len(listening) == 8
    assert all(value.startswith("[::]:") for value in listening.values()), listening
    services = objects.of_kind("Service").values()
    assert ["PreferDualStack"] * 3 == [each["spec"]["ipFamilyPolicy"] for each in services]


def test_peers_in_the_network_of_their_nodes_show_the_mirror_only_to_the_node(render: Render) -> None:
    objects = render("peer.hostNetwork=true")
    pod = objects.pods["peer"]["spec"]
    assert (True, "ClusterFirstWithHostNet") == (pod["hostNetwork"], pod["dnsPolicy"])
    flags = objects.flags("peer/peer")
    assert ("127.0.0.1:65001", "http://127.0.0.1:65001") == (flags["mirror-listen"], flags["mirror-address"])
    assert "hostNetwork" not in render().pods["peer"]["spec"]


def test_the_supernode_accepts_peers_in_the_network_of_their_nodes(render: Render) -> None:
    """Such a peer has the address of its node, which no rule about pods matches. Its token still counts."""

    def open_ports(*values: str) -> set[str]:
        policy = render(*values).of_kind("NetworkPolicy")["pantala-supernode"]
        rules = (rule for rule in policy["spec"]["ingress"] if "from" not in rule)
        return {port["port"] for rule in rules for port in rule["ports"]}

    assert {"api", "pieces"} == open_ports("peer.hostNetwork=true")
    assert set() == open_ports()
