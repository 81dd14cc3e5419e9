"""The peers by name, and pages of them."""

import pytest

from pantala_supernode.errors import EmptyValueError, InvalidValueError, NotFoundError
from pantala_supernode.swarm.peer import Direction, PageFilter, PeerManager, SwarmPeer


def peer(name: str, *, port: int = 65002, version: str = "") -> SwarmPeer:
    return SwarmPeer(name, "10.0.0.1", port, b"key", version=version)


@pytest.fixture
def peers() -> PeerManager:
    manager = PeerManager()
    for name, port, version in (("b", 3, "1"), ("a", 1, "2"), ("c", 2, "1")):
        manager.register(peer(name, port=port, version=version))
    return manager


def names(peers: PeerManager, page: PageFilter | None = None) -> list[str]:
    return [peer.name for peer in peers.list(page)]


def test_a_new_process_replaces_the_nodes_former_one() -> None:
    peers = PeerManager()
    peers.register(peer("a", version="1"))
    peers.register(peer("a", version="2"))
    assert ["2"] == [known.version for known in peers]


def test_a_peer_without_a_name_is_refused() -> None:
    with pytest.raises(EmptyValueError):
        PeerManager().register(peer(""))


def test_a_deregistered_peer_is_unknown(peers: PeerManager) -> None:
    peers.deregister("a")
    assert peers.get("a") is None
    assert ["b", "c"] == names(peers)


@pytest.mark.parametrize("do", ["deregister", "known", "update"])
def test_unknown_and_empty_names_raise_different_errors(peers: PeerManager, do: str) -> None:
    with pytest.raises(NotFoundError, match="Peer 'x' is not known"):
        getattr(peers, do)("x")
    with pytest.raises(EmptyValueError):
        getattr(peers, do)("")


def test_an_update_returns_whether_a_field_changed(peers: PeerManager) -> None:
    assert peers.update("a", zone="z1", uploads=3)
    assert not peers.update("a", zone="z1", uploads=3)
    assert ("z1", 3) == (peers.known("a").zone, peers.known("a").uploads)


@pytest.mark.parametrize(
    ("news", "expected"), [({}, True), ({"connected": False}, False), ({"leaving": True}, False), ({"port": 0}, False)]
)
def test_a_peer_that_is_away_or_leaves_or_has_no_port_cannot_serve(
    peers: PeerManager, news: dict[str, int], expected: bool
) -> None:
    peers.update("a", **news)
    assert expected == peers.known("a").can_serve


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (None, "bac"),
        (PageFilter(direction=Direction.DESC), "cab"),
        (PageFilter(keys=("ID",)), "abc"),
        (PageFilter(keys=("port",)), "acb"),
        (PageFilter(keys=("version", "ID")), "bca"),
        (PageFilter(keys=("version", "ID"), direction=Direction.DESC), "acb"),
        (PageFilter(keys=("IP", "hostName", "ID")), "abc"),
        (PageFilter(0, 2), "ba"),
        (PageFilter(1, 2), "c"),
        (PageFilter(2, 2), ""),
        (PageFilter(1, 0), ""),
    ],
)
def test_a_page_is_the_requested_part(peers: PeerManager, page: PageFilter | None, expected: str) -> None:
    assert list(expected) == names(peers, page)


def test_an_invalid_page_is_an_error(peers: PeerManager) -> None:
    with pytest.raises(InvalidValueError, match="negative"):
        PageFilter(-1)
    with pytest.raises(InvalidValueError, match="negative"):
        PageFilter(0, -1)
    with pytest.raises(InvalidValueError, match="cannot be sorted by 'colour'"):
        peers.list(PageFilter(keys=("colour",)))
