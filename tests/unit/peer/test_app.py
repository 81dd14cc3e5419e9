"""How the parts of a peer are connected."""

from pathlib import Path

from pantala_peer.app import build
from pantala_peer.settings import Settings
from pantala_process.settings import ListenAddress


async def test_the_scrub_waits_while_pieces_are_sent(tmp_path: Path) -> None:
    """Otherwise it takes processor time from the last nodes of a swarm."""
    app = build(Settings("http://supernode.invalid", ListenAddress("127.0.0.1", 0), tmp_path, "node-1"))
    assert not app.scrub._busy()
    app.pieces.log.uploads = 1
    assert app.scrub._busy()
