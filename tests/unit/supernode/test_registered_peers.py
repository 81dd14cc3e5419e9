"""Registered peers and silent clients: registration, reports and deletion."""

import pytest

from pantala_protocol.geometry import Wrapping
from pantala_supernode.dragonfly.clients import Client
from pantala_supernode.dragonfly.models import PeerCreateRequest, PieceUpdateRequest
from pantala_supernode.dragonfly.peers import RegisteredPeers
from pantala_supernode.dragonfly.wire import PieceResult, PieceStatus, Registration
from pantala_supernode.errors import ConflictError, EmptyValueError, InvalidValueError, NotFoundError, NotReadyError
from pantala_supernode.images.sources import blob_source
from pantala_supernode.swarm.download import DfgetTaskStatus
from pantala_supernode.swarm.task_progress import SUPERNODE
from pantala_supernode.tasks.copy import FileSource
from pantala_supernode.tasks.task import Lease, Task
from tests.unit.supernode.conftest import ID, URL, Bench, Leases, Wish

RANGE = Wrapping(10).range(1)


@pytest.fixture
def peers(bench: Bench, leases: Leases) -> RegisteredPeers:
    numbers = iter(range(1_000_000))
    return RegisteredPeers(
        leases, bench.managers, bench.dispatcher, bench.clients, new_id=lambda: str(next(numbers)), clock=bench.clock
    )


@pytest.fixture
def task(bench: Bench) -> Task:
    bench.lease()
    return bench.cached(4)


def register(peers: RegisteredPeers, host: str = "host") -> str:
    return peers.register(PeerCreateRequest("10.0.0.9", host, 15001, "1"))


def start(bench: Bench, peers: RegisteredPeers, task: Task, peer: str, cid: str = "c1") -> Client:
    registration = Registration(cid, URL, URL, "10.0.0.9", 15001, "/p", "", "", {}, dfdaemon=False)
    client = bench.clients.add(registration, task, "10.0.0.9")
    peers.join(peer, task.id, cid)
    return client


@pytest.fixture
def client(bench: Bench, peers: RegisteredPeers, task: Task) -> Client:
    return start(bench, peers, task, register(peers))


def report(
    peers: RegisteredPeers,
    status: PieceStatus = PieceStatus.RUNNING,
    result: PieceResult = PieceResult.SUCCESS,
    *,
    cid: str = "c1",
    text: str = RANGE,
) -> None:
    peers.update_piece(ID, text, PieceUpdateRequest(cid, status, result))


def test_each_registration_is_another_peer(bench: Bench, peers: RegisteredPeers) -> None:
    first, second = register(peers), register(peers)
    assert ["host-10.0.0.9-0", "host-10.0.0.9-1"] == [first, second]
    assert [first, second] == [peer.name for peer in bench.managers.peers]


def test_the_number_of_registrations_is_bounded(peers: RegisteredPeers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pantala_supernode.dragonfly.peers._MAX_PEERS", 1)
    register(peers)
    with pytest.raises(NotReadyError):
        register(peers)


def test_a_deleted_peer_takes_its_downloads_along(bench: Bench, peers: RegisteredPeers, task: Task) -> None:
    name, other = register(peers), register(peers)
    mine, others = start(bench, peers, task, name), start(bench, peers, task, other, "c2")
    bench.dispatcher.succeeded(mine.session, task, 0b1)
    bench.managers.progress.give(ID, others.name, 0, mine.name)
    peers.deregister(name)
    assert [other, others.name] == [peer.name for peer in bench.managers.peers]
    assert [others.name] == list(bench.managers.progress.peers_by_task(ID))
    assert bench.managers.dfget_tasks.get(mine.name, ID) is None
    bench.dispatcher.release(others.session)
    assert mine.name not in bench.managers.progress.service
    with pytest.raises(NotFoundError):
        peers.deregister(name)
    with pytest.raises(EmptyValueError):
        peers.deregister("")


def test_one_download_is_deleted_alone(bench: Bench, peers: RegisteredPeers, task: Task) -> None:
    name = register(peers)
    client = start(bench, peers, task, name)
    peers.deregister(client.name)
    assert [name] == [peer.name for peer in bench.managers.peers]
    assert [] == list(bench.clients)


@pytest.mark.parametrize("has_session", [True, False])
def test_only_a_disconnected_peer_of_a_node_is_deleted(bench: Bench, peers: RegisteredPeers, has_session: bool) -> None:
    bench.peer("n1")
    with pytest.raises(ConflictError):
        peers.deregister("n1")
    bench.managers.peers.update("n1", connected=False)
    if not has_session:
        del bench.dispatcher.sessions["n1"]
    peers.deregister("n1")
    assert bench.managers.peers.get("n1") is None


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.usefixtures("client")
def test_a_deleted_task_removes_its_downloads(bench: Bench, peers: RegisteredPeers, leases: Leases, full: bool) -> None:
    peers.delete_task(ID, full=full)
    assert ([], [(ID, not full)]) == (list(bench.clients), leases.ended)
    assert [] == list(bench.managers.dfget_tasks)


def test_the_task_of_a_task_resource_is_not_deleted(bench: Bench, peers: RegisteredPeers, wanted: Wish) -> None:
    bench.state(wanted("u"))
    with pytest.raises(ConflictError, match="ns/u"):
        peers.delete_task(ID, full=True)
    with pytest.raises(NotFoundError):
        peers.delete_task("x", full=True)


@pytest.mark.parametrize(
    "source",
    [None, blob_source(URL, "", "sha256:" + "0" * 64), FileSource(URL, tenants=frozenset({"ns"}))],
    ids=["restored blob", "blob", "for another supernode"],
)
def test_only_files_of_dragonflys_clients_are_deleted(
    bench: Bench, peers: RegisteredPeers, leases: Leases, source: FileSource | None
) -> None:
    bench.managers.tasks.lease(ID, Lease(source, 600))
    for full in (False, True):
        with pytest.raises(ConflictError, match="later"):
            peers.delete_task(ID, full=full)
    assert [] == leases.ended


def test_a_success_counts_once_and_makes_a_provider(bench: Bench, peers: RegisteredPeers, client: Client) -> None:
    bench.managers.progress.give(ID, client.name, 1, SUPERNODE)
    report(peers, result=PieceResult.SEMISUC)
    progress = bench.managers.progress.tasks[ID].peers[client.name]
    assert (0b10, 0) == (progress.have, progress.served)
    report(peers)
    report(peers)
    assert (0b10, 10) == (progress.served, bench.managers.progress.supernode_bytes)


def test_a_failure_frees_the_piece(bench: Bench, peers: RegisteredPeers, client: Client) -> None:
    bench.managers.progress.give(ID, client.name, 1, SUPERNODE)
    report(peers, result=PieceResult.FAILED)
    assert {} == bench.managers.progress.tasks[ID].peers[client.name].given


@pytest.mark.parametrize(
    ("status", "result", "expected"),
    [
        (PieceStatus.STARTED, PieceResult.INVALID, DfgetTaskStatus.RUNNING),
        (PieceStatus.FINISHED, PieceResult.SUCCESS, DfgetTaskStatus.SUCCESS),
        (PieceStatus.FINISHED, PieceResult.FAILED, DfgetTaskStatus.FAILED),
    ],
)
def test_the_client_reports_start_and_end_of_its_download(
    bench: Bench,
    peers: RegisteredPeers,
    client: Client,
    status: PieceStatus,
    result: PieceResult,
    expected: DfgetTaskStatus,
) -> None:
    report(peers, status, result)
    assert expected is bench.managers.dfget_tasks.known(client.name, ID).status


@pytest.mark.usefixtures("task")
def test_a_report_without_a_known_client_is_an_error(peers: RegisteredPeers) -> None:
    with pytest.raises(NotFoundError, match="'c1' does not download"):
        report(peers)
    with pytest.raises(EmptyValueError, match="srcCid is empty"):
        report(peers, cid="")


def test_reports_that_make_no_sense_are_errors(peers: RegisteredPeers, client: Client) -> None:
    with pytest.raises(InvalidValueError):
        report(peers, result=PieceResult.INVALID)
    for text, error in (("0-45565", InvalidValueError), (Wrapping(10).range(4), NotFoundError)):
        with pytest.raises(error):
            report(peers, text=text)
    client.generation = "former"
    with pytest.raises(ConflictError):
        report(peers)


def test_a_task_without_content_has_no_pieces_to_report(bench: Bench, peers: RegisteredPeers) -> None:
    task = bench.lease()
    bench.managers.progress.init_task(ID)
    start(bench, peers, task, register(peers))
    with pytest.raises(ConflictError, match="no pieces yet"):
        report(peers)


def test_a_peer_with_the_whole_file_finishes_its_downloads(bench: Bench, peers: RegisteredPeers, task: Task) -> None:
    name = register(peers)
    with pytest.raises(NotFoundError, match="does not download"):
        peers.finish(name, ID)
    client = start(bench, peers, task, name)
    peers.finish(name, ID)
    assert DfgetTaskStatus.SUCCESS is bench.managers.dfget_tasks.known(client.name, ID).status
    bench.peer("n1")
    with pytest.raises(NotFoundError, match="does not download"):
        peers.finish("n1", ID)


def test_a_silent_peer_is_removed_unless_it_downloads(bench: Bench, peers: RegisteredPeers, task: Task) -> None:
    _idle, busy = register(peers, "idle"), register(peers, "busy")
    client = start(bench, peers, task, busy)
    peers.join("unknown", ID, "c1")
    bench.clock.now += bench.clients.lifetimes.provider + 1
    peers.tick()
    assert [busy, client.name] == [peer.name for peer in bench.managers.peers]
    bench.clients.remove(client)
    peers.tick()
    assert bench.managers.peers.get(busy) is not None
    bench.clock.now += bench.clients.lifetimes.provider + 1
    peers.tick()
    assert [] == list(bench.managers.peers)


def add(bench: Bench, task: Task, cid: str = "c", port: int = 15000, ip: str = "10.0.0.1") -> Client:
    registration = Registration(cid, URL, URL, ip, port, "/peer/file/f", "", "", {}, dfdaemon=False)
    return bench.clients.add(registration, task, "10.0.0.1")


def pass_time(bench: Bench, seconds: float) -> None:
    bench.clock.now += seconds
    bench.clients.tick()


def providers(bench: Bench, client: Client) -> set[str]:
    return {work.provider for work in bench.dispatcher.work(client.session)}


def test_the_work_of_a_silent_client_is_released(bench: Bench, task: Task) -> None:
    client = add(bench, task)
    bench.dispatcher.work(client.session)
    for seconds, expected in ((90.0, 4), (0.1, 0)):
        pass_time(bench, seconds)
        assert expected == len(bench.dispatcher.given(client.session, task))
    assert client is bench.clients.get(ID, "c")


def test_an_unfinished_client_is_removed_before_a_finished_one(bench: Bench, task: Task) -> None:
    add(bench, task, "dead")
    add(bench, task, "done").finished = True
    pass_time(bench, 300.1)
    assert (None, True) == (bench.clients.get(ID, "dead"), bench.clients.get(ID, "done") is not None)
    pass_time(bench, 300.0)
    assert bench.clients.get(ID, "done") is None
    assert (0, set()) == (len(bench.dispatcher.sessions), task.fetchers)


def test_a_request_renews_the_client_and_the_lease(bench: Bench, task: Task) -> None:
    client = add(bench, task)
    pass_time(bench, 299.0)
    bench.clients.renew(client)
    pass_time(bench, 299.0)
    assert client is bench.clients.get(ID, "c")
    assert frozenset() == bench.managers.tasks.expire(now=bench.clock.now).retired


def test_an_upload_keeps_a_provider(bench: Bench, task: Task) -> None:
    provider = add(bench, task, "provider")
    provider.finished = True
    bench.dispatcher.succeeded(provider.session, task, 0b1111)
    pass_time(bench, 599.0)
    later = add(bench, task, "later")
    bench.dispatcher.work(later.session)
    bench.dispatcher.succeeded(later.session, task, 0b1111)
    pass_time(bench, 599.0)
    assert provider is bench.clients.get(ID, "provider")


@pytest.mark.parametrize(("port", "ip"), [(0, "10.0.0.1"), (15000, "10.0.0.2")])
def test_a_client_without_a_port_or_own_address_is_no_provider(bench: Bench, task: Task, port: int, ip: str) -> None:
    first, second = add(bench, task, "first", port, ip), add(bench, task, "second")
    bench.dispatcher.succeeded(first.session, task, 0b1111)
    assert {""} == providers(bench, second)


def test_a_second_registration_restarts_the_client(bench: Bench, task: Task) -> None:
    former = add(bench, task)
    bench.dispatcher.succeeded(former.session, task, 0b11)
    again = add(bench, task)
    assert (former.name, 0) == (again.name, bench.managers.progress.pieces_by_cid(ID, again.name))
    assert [again.name] == list(bench.managers.progress.peers_by_task(ID))
    assert [again] == list(bench.clients.of(ID))
