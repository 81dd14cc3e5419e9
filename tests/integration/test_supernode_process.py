"""Processes: how they start, refuse, run out of file descriptors, take turns and end."""

import asyncio
import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from pantala_process.settings import ListenAddress, SettingsError
from pantala_supernode.http.access import Guard
from pantala_supernode.http.clients import ClientLimits
from pantala_supernode.http.front import Front
from pantala_supernode.http.site import site
from pantala_supernode.metrics import Metrics
from pantala_supernode.settings import parse
from testbed.cluster import layout
from testbed.cluster.command import CommandError
from testbed.cluster.turn import turn
from tests.support.eventually import eventually, eventually_blocking
from tests.support.small_disk import small_disk
from tests.support.supernode_lab import SupernodeProcess


def start(*flags: str, program: str = "supernode") -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PANTALA_")}
    return subprocess.Popen(
        [sys.executable, "-m", f"pantala_{program}", *flags], stderr=subprocess.PIPE, text=True, env=environment
    )


def refused(*flags: str, program: str = "supernode") -> tuple[int, str]:
    process = start(*flags, program=program)
    _, errors = process.communicate(timeout=30)
    assert "Traceback" not in errors
    return process.returncode, errors


@pytest.mark.parametrize(
    ("program", "flag", "advice"),
    [
        ("supernode", (), "--data is missing"),
        ("supernode", ("--data=/x",), "Give its URL as --api-server, or add --no-auth"),
        ("operator", (), "Set either --supernode"),
        ("peer", (), "--supernode is missing"),
        ("runtime", ("--unknown",), "unrecognized arguments"),
    ],
)
def test_wrong_flags_end_with_2_and_name_the_remedy(program: str, flag: tuple[str, ...], advice: str) -> None:
    code, text = refused(*flag, program=program)
    assert 2 == code
    assert advice in text


@pytest.mark.parametrize(
    ("flags", "advice"),
    [
        ("--listen nowhere", "is not a valid HOST:PORT"),
        ("--listen 0.0.0.0:1 --no-auth", "add --i-know"),
        ("--deny-source 10.0.0.1/8", "Give networks"),
        ("--disk-low 95", "Give the lower one as --disk-low"),
        ("--disk-high 0", "from 1 to 100"),
        ("--origin-rate fast", "Give bytes a second"),
        ("--serve-rate 0", "Give bytes a second"),
        ("--advertise http://x", "Give a host name or an IP address"),
        ("--advertise 10.0.0.7:8001", "without a scheme and a port"),
        ("--piece-size-rule large", "mixed, swarm, dragonfly"),
    ],
)
def test_a_wrong_value_is_refused_and_its_remedy_named(flags: str, advice: str) -> None:
    with pytest.raises(SettingsError, match=advice):
        parse(["--data", "x", *flags.split()], {})


def test_an_unusable_volume_ends_with_1_and_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, text = refused("--data", str(tmp_path / "file"), "--no-auth", "--listen", "127.0.0.1:0")
    assert 1 == code
    assert str(tmp_path / "file") in text


def test_a_wrong_authority_of_the_api_server_ends_with_1_and_its_name(tmp_path: Path) -> None:
    code, text = refused("--data", str(tmp_path), "--api-server=https://x", "--api-ca=/missing", "--listen=127.0.0.1:0")
    assert 1 == code
    assert "authority in /missing cannot be read: No such file or directory. Give a readable file" in text


def test_a_full_volume_ends_with_1_and_the_next_step_and_leaves_no_file(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1 << 16) as disk:
        (disk / "other").write_bytes(bytes(1 << 16))
        code, text = refused("--data", str(disk / "data"), "--no-auth", "--listen", "127.0.0.1:0")
        assert [] == list((disk / "data").iterdir())
    assert 1 == code
    assert "No space left on device. Free space there, or give a folder of another disk as --data" in text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_with_0_within_seconds(tmp_path: Path, number: signal.Signals) -> None:
    async with SupernodeProcess(tmp_path) as supernode:
        await supernode.start()
        await eventually(supernode.is_ready)
        os.kill(supernode.running.pid, number)
        await eventually(lambda: supernode.running.returncode is not None, within=10)
        assert 0 == supernode.running.returncode
        assert "Traceback" not in supernode.log.read_text()


def test_foreign_files_on_the_volume_are_kept(tmp_path: Path) -> None:
    """F17: a volume without an identity counts as empty, and nothing on it is deleted."""
    foreign = tmp_path / "tasks" / "ab"
    foreign.mkdir(parents=True)
    (foreign / "precious").write_text("mine")
    process = start("--data", str(tmp_path), "--no-auth", "--listen", "127.0.0.1:0", "--piece-listen", "127.0.0.1:0")
    eventually_blocking((tmp_path / "volume.json").exists, within=30)
    process.terminate()
    process.communicate(timeout=10)
    assert "mine" == (foreign / "precious").read_text()


_SCRIPT = """
import builtins, os, signal, sys
from {package} import __main__
real = builtins.__import__
def imported(name, *arguments, **more):
    if name == "asyncio":
        os.kill(os.getpid(), signal.{name})
    return real(name, *arguments, **more)
builtins.__import__ = imported
sys.argv = {argv}
__main__.main()
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("package", ["pantala_supernode", "pantala_peer", "pantala_runtime", "pantala_operator"])
def test_a_signal_while_modules_are_imported_ends_it_in_order(package: str, name: str) -> None:
    """What takes long is imported after the process listens to signals."""
    script = _SCRIPT.format(package=package, name=name, argv=[package])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=30)
    assert (0, "") == (done.returncode, done.stderr)


@pytest.mark.parametrize("command", ["configure", "cleanup"])
def test_an_interrupted_command_does_not_end_with_0(command: str) -> None:
    script = _SCRIPT.format(package="pantala_peer", name="SIGTERM", argv=["pantala-peer", command])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=30)
    assert (130, "") == (done.returncode, done.stderr)


FILES = 128


@pytest.fixture
def few_files() -> Iterator[None]:
    """Limit the file descriptors of this process."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.mark.usefixtures("few_files")
async def test_f20_connections_beyond_the_limit_are_closed_and_descriptors_remain() -> None:
    app, port = web.Application(), free_port()

    async def ping(_: web.Request) -> web.Response:
        return web.Response(text="OK")

    app.router.add_get("/ping", ping)
    front = Front((), Guard(None, operator="", peer="", supernode=""), Metrics(), ClientLimits())
    listen = ListenAddress("127.0.0.1", port)
    async with site(app, front, listen, share=0.125), contextlib.AsyncExitStack() as stack:
        streams = []
        for _ in range(FILES // 4):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
            writer.write(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
            streams.append(reader)
        answers = [await reader.read(12) for reader in streams]
        assert [b"HTTP/1.1 200"] * 16 + [b""] * 16 == answers
        await stack.aclose()
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/ping") as again:
            assert 200 == again.status


_HOLDER = """
import sys, time
from pathlib import Path
from testbed.cluster import layout
from testbed.cluster.turn import turn
layout.TURN = Path(sys.argv[1])
with turn():
    print("mine", flush=True)
    time.sleep(60)
"""


def test_a_second_run_waits_until_the_first_ends_or_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "TURN", tmp_path / "turn")
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(layout.TURN)], stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert "mine\n" == first.stdout.readline()
        with pytest.raises(CommandError, match="Another run"), turn(within=0.0):
            pass
        first.kill()
    begun = time.monotonic()
    with turn(within=0.0):
        assert time.monotonic() - begun < 5
