"""The runtime helper and the hosts.toml files against a real containerd and a real registry. Needs root."""

import asyncio
import contextlib
import json
import shutil
import socket
import ssl
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from testbed.containerd import Containerd
from testbed.image import Image, Layer, build, push
from testbed.pki import Authority
from testbed.process import free_ports
from testbed.registry import Registry
from tests.support.containerds import EACH, MARKS, Helper
from tests.support.eventually import eventually
from tests.support.registry_images import ANN, registry_of
from tests.support.runtime_node import RuntimeNode, ScriptedMirror
from tests.support.small_disk import small_disk

pytestmark = MARKS

SIZE = 300_000


@pytest.fixture(scope="module", params=EACH)
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeNode]:
    folder = tmp_path_factory.mktemp("node")
    image = build(folder / "image", [Layer(SIZE), Layer(1000, seed=1)])
    with (
        registry_of(image, folder / "open") as registry,
        registry_of(image, folder / "private", private=True) as private,
        Containerd(folder / "containerd", request.param) as containerd,
        Helper(folder, containerd) as helper,
    ):
        asyncio.run(helper.ready())
        yield RuntimeNode(containerd, helper, registry, private, folder, image=image)


def credentials(node: RuntimeNode, password: str, server: str = "") -> dict[str, str]:
    return {"username": "ann", "password": password, "server": server or node.private.url}


# Pulling


async def test_a_tag_can_be_given_to_an_image_and_moved_to_another(node: RuntimeNode) -> None:
    first, second = (build(node.folder / f"tag-{n}", [Layer(SIZE, seed=20 + n)]) for n in range(2))
    name = f"{node.registry.host}/team/tagged"
    for image in (first, second):
        push(image, node.registry.host, "team/tagged", "moves")
        assert 200 == (await node.helper.pull(f"{name}@{image.digest}"))[0]
        request = {"image": f"{name}@{image.digest}", "name": f"{name}:moves"}
        for _ in range(2):
            assert (204, None) == await node.helper.post("/v1/name", **request)
        listed = [found for found in await node.helper.get("/v1/images") if f"{name}:moves" in found["tags"]]
        assert [[f"{name}@{image.digest}"]] == [found["digests"] for found in listed]
    ctr = ["ctr", "-a", str(node.containerd.socket), "-n", "k8s.io", "images", "ls", f"name=={name}:moves"]
    process = await asyncio.create_subprocess_exec(*ctr, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert second.digest in output.decode()
    assert "io.cri-containerd.image=managed" in output.decode()


async def test_the_helper_reports_which_blobs_the_runtime_has(node: RuntimeNode) -> None:
    assert 200 == (await node.helper.pull(f"{node.registry.host}/team/app:1"))[0]
    asked = [*dict(node.image.blobs), f"sha256:{'0' * 64}"]
    assert (200, {"present": asked[:-1]}) == await node.helper.post("/v1/blobs", digests=asked)
    assert 400 == (await node.helper.post("/v1/blobs", digests=["sha256:../../../../etc/passwd"]))[0]


async def test_concurrent_pulls_load_each_blob_once(node: RuntimeNode) -> None:
    image = build(node.folder / "shared", [Layer(SIZE, seed=7), Layer(SIZE, seed=8)])
    digest = push(image, node.registry.host, "team/shared", "1")
    node.registry.forget()
    name = f"{node.registry.host}/team/shared@{digest}"
    answers = await asyncio.gather(*(node.helper.pull(name) for _ in range(4)))
    assert [digest] * 4 == [answer["digest"] for _, answer in answers]
    await asyncio.sleep(0.2)  # the registry logs an answer at its end
    assert dict(image.blobs) == dict(node.registry.blob_bytes())


async def test_a_private_image_needs_the_right_password_for_its_registry(node: RuntimeNode) -> None:
    name = f"{node.private.host}/team/app:1"
    refused = (403, "Unauthorized")
    assert refused == await node.helper.pull(name)
    assert refused == await node.helper.pull(name, auth=credentials(node, "wrong"))
    assert refused == await node.helper.pull(name, auth=credentials(node, ANN[1], server="http://another.example"))
    status, pulled = await node.helper.pull(name, auth=credentials(node, ANN[1]))
    assert (200, node.image.digest) == (status, pulled["digest"])
    assert SIZE < pulled["bytes"] < SIZE * 1.2
    log = node.helper.log.read_text()
    assert f"{node.private.host}/team/app:1" in log
    assert ANN[1] not in log


async def test_a_closed_port_and_an_unknown_host_are_unreachable(node: RuntimeNode) -> None:
    closed = free_ports(1)[0]
    assert (502, "Unreachable") == await node.helper.pull(f"127.0.0.1:{closed}/team/app:1")
    assert (502, "Unreachable") == await node.helper.pull("nowhere.invalid/team/app:1")


async def test_a_silent_registry_is_a_timeout(node: RuntimeNode) -> None:
    registry = ScriptedMirror(lambda _request: asyncio.sleep(60))
    async with registry.serving() as port:
        assert (504, "Timeout") == await node.helper.pull(f"127.0.0.1:{port}/team/app:1", seconds=0.5)
        async with asyncio.timeout(3):
            await registry.gone.wait()


async def test_a_signal_during_a_pull_ends_the_helper_cleanly(node: RuntimeNode, tmp_path: Path) -> None:
    registry = ScriptedMirror(lambda _request: asyncio.sleep(60))
    helper = Helper(tmp_path, node.containerd, "second.sock")
    async with registry.serving() as port:
        with helper:  # it checks the exit status
            await helper.ready()
            pulling = asyncio.create_task(helper.pull(f"127.0.0.1:{port}/team/app:1"))
            await eventually(lambda: registry.requests)
        async with asyncio.timeout(3):
            await registry.gone.wait()
        with pytest.raises(aiohttp.ClientError):
            await pulling
    assert not helper.socket.exists()
    assert "Traceback" not in helper.log.read_text()


async def test_wrong_bytes_are_a_digest_mismatch(node: RuntimeNode) -> None:
    image = build(node.folder / "wrong", [Layer(SIZE, seed=9)])
    registry = ScriptedMirror(lambda request: _serve(image, request, spoil=True))
    async with registry.serving() as port:
        name = f"127.0.0.1:{port}/team/wrong@{image.digest}"
        assert (502, "DigestMismatch") == await node.helper.pull(name)


async def _serve(image: Image, request: web.Request, *, spoil: bool) -> web.Response:
    digest = request.path.rpartition("/")[2]
    if not digest.startswith("sha256:") or not image.path(digest).exists():
        return web.Response(status=404)
    body, headers = image.read(digest), {"Docker-Content-Digest": digest}
    if "/manifests/" in request.path:
        headers["Content-Type"] = json.loads(body)["mediaType"]
    elif spoil and len(body) > 10_000:
        body = bytes(len(body))
    return web.Response(body=body, headers=headers)


async def test_a_full_disk_is_no_space(node: RuntimeNode, tmp_path: Path) -> None:
    image = build(tmp_path / "large", [Layer(24_000_000, seed=3)])
    digest = push(image, node.registry.host, "team/large", "1")
    with small_disk(tmp_path / "small", 16 << 20) as small:
        async with node.another(small) as (_, helper):
            assert (507, "NoSpace") == await helper.pull(f"{node.registry.host}/team/large@{digest}")
            assert 16 << 20 == (await helper.get("/v1/status"))["image_filesystem"]["total"]


async def test_the_helper_works_again_after_a_restart_of_containerd(node: RuntimeNode) -> None:
    name = f"{node.registry.host}/team/app:1"
    node.containerd.stop()
    assert (503, "RuntimeUnavailable") == await node.helper.pull(name)
    node.containerd.start()
    await node.helper.ready()
    assert 200 == (await node.helper.pull(name))[0]


# certs.d


async def test_the_probe_reaches_the_mirror_with_its_token(node: RuntimeNode) -> None:
    mirror = ScriptedMirror()
    async with mirror.serving() as port:
        with node.configured(port):
            status, answer = await node.helper.post("/v1/probe", node="node-1", port=port)
    assert (200, "NotFound") == (status, answer["outcome"])
    assert ("HEAD", "/v2/probe/node-1/manifests/1", f"localhost:{port}", "t0ken") in mirror.requests


async def test_probe_and_status_show_that_containerd_does_not_read_the_folder(
    node: RuntimeNode, tmp_path: Path
) -> None:
    mirror = ScriptedMirror()
    async with node.another(tmp_path / "deaf", config_path="") as (deaf, helper), mirror.serving() as port:
        with node.configured(port, folders=[deaf.certs_d]):
            await helper.post("/v1/probe", node="node-1", port=port)
        assert {(None, None)} == {(ns, token) for _, _, ns, token in mirror.requests}
        if node.containerd.version < (2, 0):
            assert {"config_path": "", "in_force": False} == (await helper.get("/v1/status"))["mirror"]


async def test_the_status_has_the_folder_if_the_runtime_reports_it(node: RuntimeNode) -> None:
    known = {"config_path": str(node.containerd.certs_d), "in_force": True}
    unknown = {"config_path": None, "in_force": None}
    assert (known if node.containerd.version < (2, 0) else unknown) == (await node.helper.get("/v1/status"))["mirror"]


SHAPES = {
    "none": None,
    "empty": b"",
    "comment": b"# hello\r\n",
    "server": b'server = "http://{host}"',
    "server-options": b'server = "http://{host}"\nskip_verify = true\n',
    "bare-host": b'server = "http://{host}"\n[host]\n',
    "host": b'server = "http://{host}"\n\n[host."http://127.0.0.1:9"]\n  capabilities = ["pull"]\n'
    b'  [host."http://127.0.0.1:9".header]\n    a = "b"',
    "unquoted": b'server = "http://{host}"\r\n[host.other]\r\ncapabilities = ["resolve"]\r\n',
    "arrays": b'server = "http://{host}"\nca = [\n]\n[host."http://127.0.0.1:9"]\nskip_verify = false\n',
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_containerd_reads_our_settings_and_asks_the_mirror_before_the_registry(
    node: RuntimeNode, shape: str
) -> None:
    if (theirs := SHAPES[shape]) is not None:
        theirs = theirs.replace(b"{host}", node.registry.host.encode())
    image = build(node.folder / shape, [Layer(2000, seed=zlib.crc32(shape.encode()))])
    digest = push(image, node.registry.host, f"shape/{shape}", "1")
    path = node.containerd.certs_d / node.registry.host / "hosts.toml"
    if theirs is not None:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(theirs)
    mirror = ScriptedMirror()
    try:
        async with mirror.serving() as port:
            with node.configured(port, node.registry.url):
                assert 0o600 == stat.S_IMODE(path.stat().st_mode)
                status, pulled = await node.helper.pull(f"{node.registry.host}/shape/{shape}@{digest}")
        assert (200, digest) == (status, pulled["digest"])
        assert {node.registry.host} == {ns for _, _, ns, _ in mirror.requests}
        assert {"t0ken"} == {token for *_, token in mirror.requests}
        assert ("HEAD", f"/v2/shape/{shape}/manifests/{digest}") == mirror.requests[0][:2]
        assert 3 <= len(mirror.requests)
        if theirs is not None:
            assert theirs == path.read_bytes()
    finally:
        path.unlink(missing_ok=True)
        if path.parent.exists():
            path.parent.rmdir()


async def test_certificates_in_a_further_folder_stay_in_force(node: RuntimeNode, tmp_path: Path) -> None:
    """Containerd reads the first folder with a directory for the registry or a default. Ours must not hide others."""
    further = tmp_path / "docker"
    authority = Authority(tmp_path / "pki")
    name = socket.gethostname().lower()  # containerd does not check the certificates of loopback
    certificate, key = authority.issue("registry", name)
    mirror = ScriptedMirror()
    listen, config_path = f"{name}:{free_ports(1)[0]}", f"{tmp_path}/two/certs.d:{further}"
    async with contextlib.AsyncExitStack() as stack:
        registry = stack.enter_context(Registry(tmp_path / "tls", listen=listen, certificate=certificate, key=key))
        another = node.another(tmp_path / "two", config_path=config_path, concurrent_downloads=4)
        two, helper = await stack.enter_async_context(another)
        context = ssl.create_default_context(cafile=str(authority.certificate_file))
        image = f"{registry.host}/team/app@{push(node.image, registry.host, 'team/app', '1', tls=context)}"
        assert (502, "Unreachable") == await helper.pull(image)
        (further / registry.host).mkdir(parents=True)
        shutil.copy(authority.certificate_file, further / registry.host / "ca.crt")
        assert 200 == (await helper.pull(image))[0]
        port = await stack.enter_async_context(mirror.serving())
        with node.configured(port, folders=[two.certs_d, further]):
            assert 200 == (await helper.pull(image))[0]
            assert [] == mirror.requests
            assert 200 == (await helper.pull(node.by_digest))[0]
            assert [] != mirror.requests
        assert 200 == (await helper.pull(image))[0]


async def test_a_list_of_folders_works_with_each_version_of_containerd(node: RuntimeNode, tmp_path: Path) -> None:
    """The transfer service of 2.1 to 2.4 reads the default list as the name of one folder."""
    folders = [tmp_path / "two/certs.d", tmp_path / "docker/certs.d"]
    mirror = ScriptedMirror()
    another = node.another(tmp_path / "two", config_path=":".join(map(str, folders)))
    async with another as (_, helper), mirror.serving() as port:
        with node.configured(port, folders=folders):
            await helper.post("/v1/probe", node="node-1", port=port)
    assert ("HEAD", "/v2/probe/node-1/manifests/1", f"localhost:{port}", "t0ken") in mirror.requests
    assert not (tmp_path / "two/certs.d:").exists()


async def test_the_default_serves_a_registry_without_a_folder_until_the_cleanup(node: RuntimeNode) -> None:
    mirror = ScriptedMirror()
    async with mirror.serving() as port:
        with node.configured(port):
            await node.helper.pull(node.by_digest)
        asked = len(mirror.requests)
        assert 0 < asked
        await node.helper.pull(node.by_digest)
        assert asked == len(mirror.requests)
    assert [] == list(node.containerd.certs_d.iterdir())


async def test_an_unreachable_mirror_costs_no_time(node: RuntimeNode) -> None:
    with node.configured(free_ports(1)[0], node.registry.url):
        async with asyncio.timeout(2):
            status, _ = await node.helper.pull(node.by_digest)
        assert 200 == status
