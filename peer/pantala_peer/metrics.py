"""The metrics of a peer. Labels come from closed lists and never hold a URL, an address or an ID."""

import asyncio
from collections import Counter as Tally
from collections.abc import Iterator
from typing import Final

import structlog
from prometheus_client.core import Metric

from pantala_peer.cache.pieces import PieceCache
from pantala_peer.errors import LOCAL
from pantala_peer.events import DownloadEnded, PeerEvents
from pantala_peer.images.orders import ImageOrders
from pantala_peer.mirror.server import MirrorCounts
from pantala_peer.sync.supernodes import SupernodeSessions
from pantala_pieces.errors import StoreError
from pantala_pieces.scrub import Scrub
from pantala_pieces.transfer.errors import FetchError
from pantala_pieces.transfer.upload.sender import PieceSender
from pantala_pieces.usage import Usage
from pantala_process import metrics
from pantala_process.metrics import Family
from pantala_protocol.images import PullPhase

_MEASURE = 10.0
"""Seconds between two measurements of the disk."""

_DONE = "done"

MIRROR: Final = Family(
    "pantala_peer_mirror_requests_total", "counter",
    "Requests of containerd to the mirror. A hit is served. After a miss or a late request, containerd asks the "
    "registry. A broken answer ends early, and the registry sends the missing bytes.",
    "How many requests does the mirror save the registries, and is it too slow?",
    {"result": ("hit", "miss", "late", "broken")},
)  # fmt: skip
MIRROR_BYTES: Final = Family(
    "pantala_peer_mirror_bytes_total", "counter", "Bytes of blobs that the mirror sent to containerd.",
    "How many bytes of images come from the mirror?",
)  # fmt: skip
RECEIVED: Final = Family(
    "pantala_peer_received_bytes_total", "counter",
    "Bytes of verified pieces, by source. A client is a client of Dragonfly.",
    "Where do the bytes of this node come from?", {"source": ("supernode", "peer", "client")},
)  # fmt: skip
DOWNLOADS: Final = Family(
    "pantala_peer_downloads_total", "counter", "Pieces that the peer downloaded or tried to download, by result.",
    "Do providers refuse, stall or send wrong bytes?",
    {"result": (_DONE, *sorted(each.kind for each in FetchError.__subclasses__()), LOCAL)},
)  # fmt: skip
SENT: Final = Family(
    "pantala_peer_sent_bytes_total", "counter", "Bytes of pieces that the peer sent to other nodes.",
    "How many bytes does this node send to other nodes?",
)  # fmt: skip
UPLOADS: Final = Family(
    "pantala_peer_uploads", "gauge", "Pieces that the peer sends now.", "How busy is this node's link?"
)
DISK: Final = Family(
    "pantala_peer_disk_bytes", "gauge",
    "Size of the disk with the peer's folder, its free bytes, and the part of them that stays free (headroom).",
    "Which node runs out of disk?", {"part": ("size", "free", "headroom")},
)  # fmt: skip
CACHED: Final = Family(
    "pantala_peer_cached_bytes", "gauge", "Bytes of pieces in the cache.", "How much of the disk do files use?"
)
TASKS: Final = Family("pantala_peer_cached_tasks", "gauge", "Tasks in the cache.", "How many files does the node have?")
DAMAGED: Final = Family(
    "pantala_peer_damaged_files_total", "counter", "Damaged files on the disk that the scrub has found.",
    "Does this node's disk lose bytes, or do programs change published files?",
)  # fmt: skip
PULLS: Final = Family(
    "pantala_peer_pulls", "gauge", "Images that the operator ordered, by the state of the pull.",
    "Do ordered images arrive on this node?", {"state": tuple(PullPhase)},
)  # fmt: skip
EXCHANGES: Final = Family(
    "pantala_peer_exchanges_total", "counter", "Exchanges with supernodes.", "Does the peer reach the supernodes?"
)
SUPERNODES: Final = Family(
    "pantala_peer_supernodes", "gauge", "Supernodes, by whether they answered this peer last time.",
    "Which node is cut off from a supernode?", {"answers": ("true", "false")},
)  # fmt: skip
SILENCE: Final = Family(
    "pantala_peer_silence_seconds", "gauge", "Seconds since the last answer of any supernode.",
    "Since when is this node cut off?",
)  # fmt: skip
FAMILIES: Final = (
    MIRROR, MIRROR_BYTES, RECEIVED, DOWNLOADS, SENT, UPLOADS, DISK, CACHED, TASKS, DAMAGED, PULLS, SUPERNODES,
    SILENCE, EXCHANGES,
)  # fmt: skip
"""All families of a peer, in the order of the reference page."""

log = structlog.get_logger()


class PeerMetrics:
    """Counts downloads, and reads the other figures when metrics are requested."""

    def __init__(
        self,
        cache: PieceCache,
        pieces: PieceSender,
        scrub: Scrub,
        events: PeerEvents,
        supernodes: SupernodeSessions,
        images: ImageOrders,
        mirror: MirrorCounts,
    ) -> None:
        self.registry = metrics.new_registry("peer")
        self._cache = cache
        self._pieces = pieces
        self._scrub = scrub
        self._supernodes = supernodes
        self._images = images
        self._mirror = mirror
        self._usage: Usage | None = None
        self._downloads: Tally[str] = Tally()
        self._received: Tally[str] = Tally()
        events.subscribe(DownloadEnded, self._on_download_ended)
        self.registry.register(metrics.Readings(self._read))

    async def run(self) -> None:
        """Measure the disk regularly, in the disk's thread, because a hanging disk must not stop the peer.

        A full disk is also logged, when it becomes full and at the start.
        """
        while True:
            former = self._usage
            try:
                self._usage = usage = await self._cache.usage()
                if not usage.spare and (former is None or former.spare):
                    log.warning("the disk has no room for more files; free space on it", **usage._asdict())
            except StoreError:
                self._usage = None
            await asyncio.sleep(_MEASURE)

    def _on_download_ended(self, event: DownloadEnded) -> None:
        work = event.work
        if event.error is not None:
            self._downloads[event.kind] += 1
            return
        self._downloads[_DONE] += 1
        source = "client" if work.path else "peer" if work.provider else "supernode"
        self._received[source] += work.size

    def _read(self) -> Iterator[Metric]:
        mirror, sessions, cut_off = self._mirror, self._supernodes.sessions, len(self._supernodes.errors)
        hits = mirror.manifests + mirror.blobs
        late, broken = mirror.late, mirror.broken
        yield MIRROR.values({"hit": hits, "miss": mirror.misses - late, "late": late, "broken": broken})
        yield MIRROR_BYTES.value(mirror.bytes)
        yield RECEIVED.values(self._received)
        yield DOWNLOADS.values(self._downloads)
        yield SENT.value(self._pieces.log.bytes_sent)
        yield UPLOADS.value(self._pieces.log.uploads)
        if (usage := self._usage) is not None:
            yield DISK.values({"size": usage.total, "free": usage.free, "headroom": usage.headroom})
        yield CACHED.value(self._cache.total_bytes())
        yield TASKS.value(len(self._cache.tasks()))
        yield DAMAGED.value(self._scrub.damaged)
        yield PULLS.values(Tally(entry.state.phase for entry in self._images.ledger.entries.values()))
        yield SUPERNODES.values({"true": sessions - cut_off, "false": cut_off})
        silence = asyncio.get_running_loop().time() - self._supernodes.answered_at
        if silence < float("inf"):
            yield SILENCE.value(silence)
        yield EXCHANGES.value(self._supernodes.exchanges)
