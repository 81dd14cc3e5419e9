"""A peer's metrics count downloads by their result, and read the rest from its parts."""

from pathlib import Path

from prometheus_client import generate_latest

from pantala_peer.cache.pieces import PieceCache
from pantala_peer.errors import StalledError
from pantala_peer.events import DownloadEnded, PeerEvents
from pantala_peer.metrics import PeerMetrics
from pantala_pieces.server import PieceServer
from pantala_protocol.sync import PieceWork


def test_downloads_are_counted_by_result(tmp_path: Path) -> None:
    cache, events = PieceCache(tmp_path), PeerEvents()
    pieces = PieceServer(cache.lookup, keys=tuple, clock=float, slots=1)
    pieces.bytes_sent = 7
    metrics = PeerMetrics(cache, pieces, events)
    work = PieceWork("a" * 64, "g", 0, 0, 1, "00", "127.0.0.1", 1, "ticket")
    for error in (None, None, StalledError("slow"), OSError("disk")):
        events.emit(DownloadEnded(work, error))
    text = generate_latest(metrics.registry).decode()
    for line in (
        'pantala_peer_downloads_total{result="done"} 2.0',
        'pantala_peer_downloads_total{result="stalled"} 1.0',
        'pantala_peer_downloads_total{result="local"} 1.0',
        "pantala_peer_sent_bytes_total 7.0",
        "pantala_peer_cached_tasks 0.0",
    ):
        assert line in text
    cache.close()
