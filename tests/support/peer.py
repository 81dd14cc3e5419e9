"""Parts of a peer for unit tests, without sockets."""

import random
from collections.abc import Callable
from pathlib import Path

from pantala_peer.cache.pieces import PieceCache
from pantala_peer.cache.publisher import Publisher
from pantala_peer.download.jobs import Downloads
from pantala_peer.events import PeerEvents
from pantala_peer.sync.connection import SyncConnection
from pantala_peer.sync.session import NodeState
from pantala_peer.sync.supernodes import SupernodeSessions
from pantala_peer.tasks.assigned import AssignedTasks
from pantala_peer.tasks.deliveries import Deliveries
from pantala_peer.tasks.room import BlobRoom
from pantala_pieces.transfer.deadlines import ReceiveTimeouts
from pantala_pieces.transfer.providers import Providers
from pantala_pieces.transfer.receiver import PieceReceiver
from pantala_protocol.statement import Member, Membership
from pantala_protocol.sync import HeldPieces, SyncRequest

IDENTITY = SyncRequest("node", "boot", 0, zone="zone", version="0.1.0", downloads=4, upload_slots=8, blake3=True)


def membership(revision: int, *names: str) -> Membership:
    return Membership(revision, tuple(Member(name, f"http://{name}") for name in names))


def node_state(
    held: dict[str, HeldPieces] | None = None,
    *,
    busy: Callable[[], bool] = lambda: False,
    left: Callable[[], int] = lambda: 0,
) -> NodeState:
    """A node with the pieces in ``held``, which the test may change later."""
    inventory = {} if held is None else held
    return NodeState(
        port=65002,
        uploads=lambda: 0,
        cache_bytes=lambda: 0,
        inventory=lambda: dict(inventory),
        busy=busy,
        left=left,
        window=lambda: 4,
    )


def assigned_tasks(root: Path, cache: PieceCache, events: PeerEvents) -> AssignedTasks:
    """The tasks of a node without supernodes."""
    providers = Providers(connect_timeout=1.0, timeouts=ReceiveTimeouts(1.0, 1.0))
    supernodes = SupernodeSessions(
        "http://nowhere.invalid",
        IDENTITY,
        events,
        connect=lambda url: SyncConnection(url, token_file=None, timeout=1.0),
        rng=random.Random(1),
    )
    receiver = PieceReceiver(providers.fetch, cache.put, threads=4, urgent=lambda _: False, rest=providers.rest)
    downloads = Downloads(receiver, events, parallel=4, urgent=lambda _: False)
    deliveries = Deliveries(supernodes, Publisher(root), events)
    return AssignedTasks(supernodes, cache, downloads, deliveries, BlobRoom(), events)
