"""The runtime helper's process: its flags, its socket, its end, and its generated code."""

import asyncio
import socket
import stat
from pathlib import Path

import pytest
from aiohttp import ClientSession, UnixConnector

from pantala_process.settings import SettingsError
from pantala_runtime import proto
from pantala_runtime.app import build
from pantala_runtime.proto.generate import generate
from pantala_runtime.settings import Settings, parse


async def test_only_our_user_can_open_the_socket_and_a_dead_one_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "runtime.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    stop = asyncio.Event()
    running = asyncio.create_task(build(Settings(f"unix://{tmp_path}/none.sock", path, grace=0.1)).run(stop))
    async with ClientSession(connector=UnixConnector(str(path))) as session, asyncio.timeout(10):
        await asyncio.sleep(0.1)
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)
        async with session.get("http://runtime/v1/status") as response:
            assert (503, "RuntimeUnavailable") == (response.status, (await response.json())["error"]["reason"])
    stop.set()
    await running
    assert not path.exists()


async def test_a_file_that_is_not_a_socket_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "runtime.sock"
    path.write_text("mine")
    with pytest.raises(SettingsError, match="is not a socket"):
        await build(Settings(listen=path)).run(asyncio.Event())
    assert "mine" == path.read_text()


def test_generated_code_is_in_step_with_its_definitions(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed; the generated code is not compared")
    generate(tmp_path)
    here = Path(str(proto.__file__)).parent
    assert {path.name: path.read_text() for path in here.glob("*_pb2.py*")} == {
        path.name: path.read_text() for path in tmp_path.iterdir()
    }


def test_all_settings_have_a_default() -> None:
    assert Settings() == parse([], {})


@pytest.mark.parametrize("prefix", ["unix:", "unix://"])
def test_flags_win_over_the_environment_that_mirrors_them(prefix: str) -> None:
    environment = {
        "PANTALA_RUNTIME": f"{prefix}/r.sock",
        "PANTALA_LISTEN": f"{prefix}/l.sock",
        "PANTALA_IMAGE_FILESYSTEM": "/images",
        "PANTALA_CONTENT": "/content",
    }
    assert Settings("unix:///r.sock", Path("/l.sock"), Path("/images"), Path("/content")) == parse([], environment)
    assert Path("/flag.sock") == parse(["--listen", "unix:/flag.sock"], environment).listen


@pytest.mark.parametrize("flag", ["--listen", "--runtime"])
def test_only_unix_sockets_are_accepted(flag: str) -> None:
    with pytest.raises(SettingsError, match=f"{flag} .* is not a unix socket"):
        parse([flag, "/run/x.sock"], {})
