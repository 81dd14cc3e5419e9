"""The metrics of a peer."""

from collections import Counter as Tally
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from pantala_peer.cache.pieces import PieceCache
from pantala_peer.events import DownloadEnded, PeerEvents
from pantala_pieces.scrub import Scrub
from pantala_pieces.transfer.upload.sender import PieceSender
from pantala_process import metrics


class PeerMetrics:
    """Counts downloads, and reads the other figures when metrics are requested."""

    def __init__(
        self,
        cache: PieceCache,
        pieces: PieceSender,
        scrub: Scrub,
        events: PeerEvents,
        *,
        exchanges: Callable[[], int],
    ) -> None:
        self.registry = metrics.new_registry("peer")
        self._cache = cache
        self._pieces = pieces
        self._scrub = scrub
        self._exchanges = exchanges
        self._downloads: Tally[str] = Tally()
        events.subscribe(DownloadEnded, self._on_download_ended)
        self.registry.register(metrics.Readings(self._read))

    def _on_download_ended(self, event: DownloadEnded) -> None:
        self._downloads["done" if event.error is None else event.kind] += 1

    def _read(self) -> Iterator[Metric]:
        downloads = CounterMetricFamily("pantala_peer_downloads", "Pieces downloaded, by result.", labels=["result"])
        for result, count in self._downloads.items():
            downloads.add_metric([result], count)
        yield downloads
        yield CounterMetricFamily("pantala_peer_exchanges", "Exchanges with supernodes.", self._exchanges())
        yield GaugeMetricFamily("pantala_peer_uploads", "Pieces that the peer sends now.", self._pieces.uploads)
        yield CounterMetricFamily("pantala_peer_sent_bytes", "Bytes of pieces sent.", self._pieces.bytes_sent)
        yield GaugeMetricFamily("pantala_peer_cached_bytes", "Bytes of pieces in the cache.", self._cache.total_bytes())
        yield GaugeMetricFamily("pantala_peer_cached_tasks", "Tasks in the cache.", len(self._cache.tasks()))
        text = "Damaged files on the disk that the scrub has found."
        yield CounterMetricFamily("pantala_peer_damaged_files", text, self._scrub.damaged)
