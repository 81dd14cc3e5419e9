"""Networks as companies have them, set by the chart's values alone."""

import base64
import ipaddress
import ssl
from pathlib import Path

import pytest

from pantala_protocol.reasons import Reason
from testbed.cluster import Cluster, layout
from testbed.cluster.registry_host import RegistryHost
from testbed.image import push
from testbed.origin import Generated, Origin
from testbed.pki import Authority
from testbed.proxy import ForwardProxy
from tests.e2e.case import MIB, Case, passes
from tests.e2e.environment import NAMESPACE
from tests.e2e.images import Images, Pushed, assert_on_nodes, assert_sent_once
from tests.e2e.kubectl import Resource
from tests.support.origin_thread import OriginThread, ServerThread

_LOGIN = b"ann:p\xe4ss:w\xc3\xb6rd"
_HIDDEN = "files.corp.invalid"


def _secret(kind: str, name: str, **data: bytes) -> Resource:
    """A Secret or ConfigMap beside the release. ``_`` in a key stands for a dot."""
    encoded = {key.replace("_", "."): base64.b64encode(value).decode() for key, value in data.items()}
    metadata = {"name": name, "namespace": NAMESPACE}
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": metadata,
        "data" if kind == "Secret" else "binaryData": encoded,
    }


def _assert_fails(case: Case, name: str, reason: Reason, said: str) -> None:
    def failed() -> None:
        conditions = [case.condition(f"task/{name}", kind) for kind in ("Ready", "Stalled", "Reconciling")]
        found = [(each["reason"], each["message"]) for each in conditions if each]
        assert [message for because, message in found if because == reason and said in message], found

    passes(failed)


def test_a_file_behind_a_proxy_with_a_password(case: Case, cluster: Cluster) -> None:
    """No pod reaches the origin, and the cluster does not know its name. Only the supernode asks the proxy."""
    body = Generated(32 * MIB, seed=40)
    proxy_ = ForwardProxy(cluster.host, credentials=_LOGIN)
    with OriginThread("127.0.0.1") as origin, ServerThread(proxy_) as proxy:
        proxy.hosts[_HIDDEN] = ("127.0.0.1", origin.port)
        for path in ("/file", "/later"):
            origin.serve(path, body)
        case.kubectl.apply(_secret("Secret", "proxy-login", credentials=_LOGIN))
        case.apply(case.task("without", f"http://{_HIDDEN}/file"))
        _assert_fails(case, "without", Reason.SOURCE_HOST_UNKNOWN, _HIDDEN)
        assert [] == proxy.log

        with case.release.changed(proxy={"url": proxy.url, "credentialsSecret": "proxy-login"}):
            case.apply(case.task("file", f"http://{_HIDDEN}/file", path=f"{case.namespace}/networks/file"))
            case.ready("task/file")
            case.assert_published(f"{case.namespace}/networks/file", body)
            assert {f"GET http://{_HIDDEN}/file"} == set(proxy.log)
            # The supernode reads each byte once. A connection that it closes may have further bytes on their way.
            assert case.status("task/file")["bytes"]["origin"] <= 1.01 * body.size

            proxy.credentials = b"ann:changed"
            case.apply(case.task("refused", f"http://{_HIDDEN}/later"))
            _assert_fails(case, "refused", Reason.SOURCE_PROXY, "it answered 407: --proxy-credentials are missing")


def test_a_file_of_a_server_with_a_private_authority(case: Case, cluster: Cluster, tmp_path: Path) -> None:
    """Each authority counts for its host."""
    authority = Authority(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*authority.issue("files", "files", names=["files.testbed", cluster.host]))
    body = Generated(8 * MIB, seed=41)
    ca = authority.certificate_file.read_bytes()
    case.kubectl.apply(_secret("ConfigMap", "corp-ca", ca_crt=ca))
    with OriginThread(cluster.host, tls) as origin:
        origin.serve("/file", body)
        by_name, by_address = f"https://files.testbed:{origin.port}/file", origin.url("/file")
        with case.release.changed(authorities={"files.testbed": {"configMapName": "corp-ca", "key": "ca.crt"}}):
            case.apply(case.task("name", by_name), case.task("address", by_address))
            case.ready("task/name")
            case.assert_published("name", body)
            _assert_fails(case, "address", Reason.SOURCE_TLS, "certificate that is not valid")


def test_an_image_of_docker_hub_from_an_internal_registry(
    case: Case, cluster: Cluster, site: RegistryHost, images: Images, tmp_path: Path
) -> None:
    """Nothing here reaches docker.io."""
    made = images.fresh(site, "unused", 8 * MIB).image
    push(made, site.address, "dockerhub/team/app", "1")
    site.registry.forget()
    image = Pushed("docker.io/team/app:1", made)
    endpoint = f"http://{site.host}/v2/dockerhub"
    with case.release.changed(registries={"docker.io": {"endpoint": endpoint}}):
        case.apply(case.prefetch("mapped", image))
        case.ready("imageprefetch/mapped")
        assert_on_nodes(cluster, case.nodes, image)
        assert_sent_once(site, image)
        case.apply(*(case.pod(f"pod-{node}", image.name, node) for node in case.nodes))
        case.pods_ready()


@pytest.mark.skipif(not layout.IPV6, reason="set PANTALA_TESTBED_IPV6=1 for a cluster without IPv4")
def test_a_cluster_without_ipv4_gets_files_and_images(
    case: Case, cluster: Cluster, origin: Origin, site: RegistryHost, images: Images
) -> None:
    """Files come from an origin by its address and by its name. Images come through the mirror."""
    pods = case.kubectl.list("pods", NAMESPACE)
    addresses = [each["ip"] for pod in pods for each in pod["status"]["podIPs"]]
    assert {6} == {ipaddress.ip_address(address).version for address in addresses}
    body = Generated(64 * MIB, seed=42)
    for path in ("/address", "/name"):
        origin.serve(path, body)
    case.apply(
        case.task("address", origin.url("/address")), case.task("name", f"http://files.testbed:{origin.port}/name")
    )
    case.ready("task/address", "task/name")
    for name in ("address", "name"):
        case.assert_published(name, body)
        counted = case.status(f"task/{name}")["bytes"]
        assert counted["origin"] <= 1.01 * body.size
        assert counted["fromPeers"] > 0

    def configured() -> None:
        for node in case.nodes:
            conditions = case.kubectl.get(f"peer/{node}")["status"]["conditions"]
            mirror = next(each for each in conditions if each["type"] == "MirrorConfigured")
            assert ("True", "Probed") == (mirror["status"], mirror["reason"]), mirror

    passes(configured)
    image = images.fresh(site, "six", 8 * MIB)
    case.apply(case.prefetch("six", image))
    case.ready("imageprefetch/six")
    assert_on_nodes(cluster, case.nodes, image)
    assert_sent_once(site, image)
