"""The containerds that tests pull with, and what that needs.

``EACH`` has the distribution's version (1.6 on Debian 12, which ignores pins and needs a configured folder), 1.7, the
newest 2, and those in ``PANTALA_CONTAINERD``, separated by colons. Tests that do not depend on the version use ``ONE``.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Self

import aiohttp
import grpc.aio
import msgspec
import pytest

from testbed import registry
from testbed.containerd import BUILT, Containerd, programs
from testbed.process import Process
from tests.support.eventually import eventually

MARKS = [
    pytest.mark.skipif(os.geteuid() != 0, reason="containerd needs root: run as root to see it pull"),
    pytest.mark.skipif(not registry.installed(), reason="install docker-registry to see containerd pull from it"),
    pytest.mark.timeout(120, func_only=True),  # those that are built take minutes, once
]

_MISSING = pytest.mark.skip(reason="containerd is not installed: apt-get install containerd")
EACH = [
    *([] if shutil.which("containerd") else [pytest.param("containerd", marks=_MISSING)]),
    *(pytest.param(path, id=path if path in BUILT else path.strip("/").replace("/", "-")) for path in programs()),
]
ONE = [programs()[0]]
"""One of these programs, for ``parametrize("node", ONE, ids=["one"], indirect=True)``."""


class Helper:
    """A real runtime helper, which runs while its context is entered, and a client of it."""

    def __init__(self, folder: Path, containerd: Containerd, name: str = "helper.sock") -> None:
        self.socket = containerd.socket.with_name(name)
        content = containerd.certs_d.parent / "root/io.containerd.content.v1.content"
        flags = ["--runtime", containerd.address, "--listen", f"unix:{self.socket}", "--content", str(content)]
        self._process = Process([sys.executable, "-m", "pantala_runtime", *flags], folder / "helper.log")
        self.log = self._process.log

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop()
        assert 0 == self._process.returncode

    def open(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession("http://helper", connector=aiohttp.UnixConnector(str(self.socket)))

    async def get(self, path: str) -> Any:
        async with self.open() as session, session.get(path) as response:
            assert 200 == response.status, await response.text()
            return await response.json()

    async def post(self, path: str, **body: Any) -> tuple[int, Any]:
        async with self.open() as session, session.post(path, data=msgspec.json.encode(body)) as response:
            content = await response.read()
            return response.status, json.loads(content) if content else None

    async def pull(self, image: str, *, seconds: float = 30, **body: Any) -> tuple[int, Any]:
        """Pull an image. Returns the HTTP status, and the answer or the error's reason."""
        status, answer = await self.post("/v1/pull", image=image, timeout_seconds=seconds, **body)
        return status, answer if status == 200 else answer["error"]["reason"]

    async def ready(self) -> None:
        await eventually(lambda: self.get("/v1/status"), ignoring=(aiohttp.ClientError, AssertionError))


async def crictl_remove(containerd: Containerd, removed: str) -> None:
    """Remove an image as the kubelet does, through the CRI. The helper cannot remove images."""
    async with grpc.aio.insecure_channel(containerd.address) as channel:
        call: Any = channel.unary_unary("/runtime.v1.ImageService/RemoveImage")
        spec = bytes([0x0A, len(removed)]) + removed.encode()
        await call(bytes([0x0A, len(spec)]) + spec, timeout=10)
