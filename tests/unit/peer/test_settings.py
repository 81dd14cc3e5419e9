"""A peer's flags, the environment that mirrors them, and its metrics."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs
from prometheus_client import generate_latest

from pantala_peer.cache.pieces import PieceCache
from pantala_peer.events import DownloadEnded, PeerEvents
from pantala_peer.images.ledger import Ledger
from pantala_peer.metrics import PeerMetrics
from pantala_peer.mirror.server import MirrorCounts
from pantala_peer.settings import Settings, parse
from pantala_pieces.scrub import Scrub
from pantala_pieces.transfer.errors import StalledError
from pantala_pieces.transfer.upload.sender import PieceSender
from pantala_process.settings import ListenAddress, SettingsError
from pantala_protocol.sync import PieceWork
from tests.support.eventually import eventually

FLAGS = ["--supernode", "http://sn:8002/", "--listen", "[::]:65002", "--root", "/r", "--name", "node-1"]
SOCKET = Path("/run/pantala/runtime.sock")


def test_four_settings_have_no_default() -> None:
    expected = Settings("http://sn:8002", ListenAddress("::", 65002), Path("/r"), "node-1", runtime_socket=SOCKET)
    assert expected == parse(FLAGS, {})
    for flag in FLAGS[::2]:
        position = FLAGS.index(flag)
        with pytest.raises(SettingsError, match=f"{flag} is missing. Give it, or set PANTALA_{flag[2:].upper()}"):
            parse(FLAGS[:position] + FLAGS[position + 2 :], {})


@pytest.mark.parametrize("root", ["/", "//", "/tmp/.."])
def test_the_root_of_the_filesystem_is_refused(root: str) -> None:
    with pytest.raises(SettingsError, match="is the root of the filesystem"):
        parse([*FLAGS, "--root", root], {})


def test_the_environment_mirrors_every_flag() -> None:
    environment = {
        "PANTALA_SUPERNODE": "http://sn",
        "PANTALA_LISTEN": "0.0.0.0:1",
        "PANTALA_ROOT": "/r",
        "PANTALA_NAME": "n",
        "PANTALA_ZONE": "z",
        "PANTALA_FILES_ACCESS": "everyone",
        "PANTALA_FILES_GROUP": "1000650000",
        "PANTALA_TOKEN_FILE": "/t",
        "PANTALA_HEALTH_LISTEN": "127.0.0.1:2",
        "PANTALA_MIRROR_LISTEN": "127.0.0.1:65001",
        "PANTALA_MIRROR_TOKEN_FILE": "/m",
        "PANTALA_MIRROR_RESOLVE": "yes",
        "PANTALA_MIRROR_ADDRESS": "http://127.0.0.1:65001/",
        "PANTALA_RUNTIME_SOCKET": "unix:///run/other.sock",
        "PANTALA_BLOB_CACHE": "2Gi",
        "PANTALA_DOWNLOADS": "8",
        "PANTALA_UPLOADS": "9",
    }
    expected = Settings(
        "http://sn",
        ListenAddress("0.0.0.0", 1),
        Path("/r"),
        "n",
        zone="z",
        files_access="everyone",
        files_group=1_000_650_000,
        token_file=Path("/t"),
        health_listen=ListenAddress("127.0.0.1", 2),
        mirror_listen=ListenAddress("127.0.0.1", 65001),
        mirror_address="http://127.0.0.1:65001",
        runtime_socket=Path("/run/other.sock"),
        blob_cache=2 << 30,
        mirror_token_file=Path("/m"),
        mirror_resolve=True,
        downloads=8,
        uploads=9,
    )
    assert expected == parse([], environment)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--supernode", "http://sn:99999"], "is not a valid http or https URL"),
        (["--listen", "65002"], "--listen '65002' is not a valid HOST:PORT"),
        (["--downloads", "0"], "--downloads '0' is not a whole number of pieces from 1 to 64"),
        (["--blob-cache", "10G"], "--blob-cache '10G' is not a size"),
        (["--runtime-socket", "/run/x.sock"], "--runtime-socket '/run/x.sock' is not the address of a unix socket"),
    ],
)
def test_a_wrong_value_is_named(flags: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse([*FLAGS, *flags], {})


def test_a_peer_may_have_no_runtime_helper() -> None:
    assert parse([*FLAGS, "--runtime-socket", "none"], {}).runtime_socket is None


async def test_downloads_are_counted_by_result(tmp_path: Path) -> None:
    cache, events = PieceCache(tmp_path), PeerEvents()
    pieces = PieceSender(cache.lookup, keys=tuple, clock=float, slots=1)
    pieces.log.bytes_sent = 7
    supernodes: Any = SimpleNamespace(sessions=2, errors=["refused"], exchanges=3, answered_at=float("-inf"))
    images: Any = SimpleNamespace(ledger=Ledger())
    counts = MirrorCounts(manifests=1, blobs=2, bytes=9, misses=5, late=2, broken=1)
    metrics = PeerMetrics(cache, pieces, Scrub(cache, busy=bool), events, supernodes, images, counts)
    work = PieceWork("a" * 64, "g", 0, 0, 10, "127.0.0.1", 1, "ticket", digest="00")
    for error in (None, StalledError("slow"), OSError("disk")):
        events.emit(DownloadEnded(work, error))
    events.emit(DownloadEnded(structs.replace(work, provider="node-2", size=30)))
    events.emit(DownloadEnded(structs.replace(work, provider="client", path="/p", size=50)))
    assert "pantala_peer_disk_bytes" not in generate_latest(metrics.registry).decode()
    measuring = asyncio.create_task(metrics.run())
    await eventually(lambda: b"pantala_peer_disk_bytes" in generate_latest(metrics.registry))
    measuring.cancel()
    text = generate_latest(metrics.registry).decode()
    for line in (
        'pantala_peer_downloads_total{result="done"} 3.0',
        'pantala_peer_downloads_total{result="stalled"} 1.0',
        'pantala_peer_downloads_total{result="local"} 1.0',
        'pantala_peer_downloads_total{result="corrupt"} 0.0',
        'pantala_peer_received_bytes_total{source="supernode"} 10.0',
        'pantala_peer_received_bytes_total{source="peer"} 30.0',
        'pantala_peer_received_bytes_total{source="client"} 50.0',
        'pantala_peer_mirror_requests_total{result="hit"} 3.0',
        'pantala_peer_mirror_requests_total{result="miss"} 3.0',
        'pantala_peer_mirror_requests_total{result="late"} 2.0',
        'pantala_peer_mirror_requests_total{result="broken"} 1.0',
        "pantala_peer_mirror_bytes_total 9.0",
        'pantala_peer_supernodes{answers="true"} 1.0',
        'pantala_peer_supernodes{answers="false"} 1.0',
        "pantala_peer_sent_bytes_total 7.0",
        "pantala_peer_exchanges_total 3.0",
        "pantala_peer_damaged_files_total 0.0",
        "pantala_peer_cached_tasks 0.0",
    ):
        assert line in text
    cache.close()
