"""The peers by name and in pages, and their downloads."""

import pytest

from pantala_protocol.sync import DeliveryState, DeliveryStatus
from pantala_supernode.errors import EmptyValueError, InvalidValueError, NotFoundError
from pantala_supernode.swarm.download import DfgetTask, DfgetTaskManager, DfgetTaskStatus
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
def test_a_leaving_or_portless_peer_cannot_serve(peers: PeerManager, news: dict[str, int], expected: bool) -> None:
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


PUBLISHED = DeliveryState(DeliveryStatus.PUBLISHED, path="f")


@pytest.fixture
def downloads() -> DfgetTaskManager:
    manager = DfgetTaskManager()
    for client, task in (("a", "t1"), ("a", "t2"), ("b", "t1")):
        manager.add(client, task)
    return manager


def keys(downloads: DfgetTaskManager) -> list[tuple[str, str]]:
    return [(task.peer, task.task_id) for task in downloads]


def test_a_download_begins_waiting_and_is_added_once(downloads: DfgetTaskManager) -> None:
    first = downloads.known("a", "t1")
    assert DfgetTask("a", "t1", DfgetTaskStatus.WAITING) == first
    assert first is downloads.add("a", "t1")
    assert ["t1", "t2"] == [task.task_id for task in downloads.list("a")]
    assert [] == list(downloads.list("x"))


@pytest.mark.parametrize(("client", "task"), [("", "t"), ("c", ""), ("", "")])
def test_a_download_needs_a_peer_and_a_task(downloads: DfgetTaskManager, client: str, task: str) -> None:
    with pytest.raises(EmptyValueError):
        downloads.add(client, task)
    with pytest.raises(EmptyValueError):
        downloads.known(client, task)


def test_an_unknown_download_is_an_error_where_it_must_be_known(downloads: DfgetTaskManager) -> None:
    assert downloads.get("b", "t2") is None
    with pytest.raises(NotFoundError, match="'b' does not download task 't2'"):
        downloads.known("b", "t2")


def test_success_stays_and_a_failure_does_not(downloads: DfgetTaskManager) -> None:
    for status in ("RUNNING", "FAILED", "RUNNING"):
        downloads.update_status("a", "t1", DfgetTaskStatus(status))
    assert DfgetTaskStatus.RUNNING is downloads.known("a", "t1").status
    for status in ("SUCCESS", "FAILED", "RUNNING"):
        downloads.update_status("a", "t1", DfgetTaskStatus(status))
    assert DfgetTaskStatus.SUCCESS is downloads.known("a", "t1").status


def test_new_content_restarts_a_download(downloads: DfgetTaskManager) -> None:
    downloads.update_status("a", "t1", DfgetTaskStatus.SUCCESS)
    downloads.restart("a", "t1")
    downloads.restart("x", "t1")
    assert DfgetTaskStatus.WAITING is downloads.known("a", "t1").status
    assert 3 == len(keys(downloads))


def test_a_delivery_is_kept_until_it_is_taken_back(downloads: DfgetTaskManager) -> None:
    downloads.deliver("a", "t1", "u", PUBLISHED)
    assert PUBLISHED == downloads.delivery("a", "t1", "u")
    downloads.deliver("a", "t1", "u", None)
    downloads.deliver("a", "t1", "u", None)
    assert downloads.delivery("a", "t1", "u") is None


def test_a_deletion_removes_nothing_else(downloads: DfgetTaskManager) -> None:
    downloads.delete("a", "t2")
    downloads.delete("a", "t2")
    assert [("a", "t1"), ("b", "t1")] == keys(downloads)
    downloads.delete_client("b")
    downloads.delete_client("b")
    assert [("a", "t1")] == keys(downloads)


def test_a_deleted_task_has_no_downloads(downloads: DfgetTaskManager) -> None:
    downloads.delete_task("t1")
    downloads.delete_task("t1")
    assert [("a", "t2")] == keys(downloads)
