"""Assignments, the peers' part in the swarms, and the feed of changes."""

from pantala_protocol.statement import CDNStatus, Failure, PeerReport, TaskReport
from pantala_protocol.sync import DeliveryState, DeliveryStatus
from pantala_supernode.swarm.download import DfgetTaskStatus
from pantala_supernode.sync.feed import MAX_FAILURES
from tests.unit.supernode.conftest import ID, Bench, Wish


def test_an_assignment_is_sent_once(bench: Bench, wanted: Wish) -> None:
    session = bench.peer("n1")
    bench.state(wanted("u", "n1"))
    assert bench.assignments.assign(session)
    assert not bench.assignments.assign(session)
    assert (1, [ID]) == (session.revision, [sent.task_id for sent in session.last_sent or ()])


def test_a_peer_joins_the_swarm_once_the_content_is_known(bench: Bench, wanted: Wish) -> None:
    session = bench.peer("n1")
    bench.state(wanted("u", "n1"))
    bench.assignments.assign(session)
    assert (False, {}) == (bench.assignments.takes_part("n1", ID), session.open_tasks)
    bench.cached()
    bench.assignments.assign(session)
    assert (True, {ID: 0}) == (bench.assignments.takes_part("n1", ID), session.open_tasks)
    assert DfgetTaskStatus.RUNNING is bench.managers.dfget_tasks.known("n1", ID).status


def test_a_peer_without_an_inventory_joins_no_swarm(bench: Bench, wanted: Wish) -> None:
    session = bench.peer("n1", inventoried=False)
    bench.state(wanted("u", "n1"))
    bench.cached()
    assert not bench.assignments.assign(session)
    assert (False, None) == (bench.assignments.takes_part("n1", ID), session.last_sent)


def test_a_peer_that_must_repeat_its_inventory_still_gets_changes(bench: Bench, wanted: Wish) -> None:
    session = bench.peer("n1")
    assert bench.assignments.assign(session) is bool(bench.managers.tasks.revision)
    bench.state(wanted("u", "n1"))
    bench.assignments.assign(session)
    session.inventoried = False
    bench.state()
    bench.managers.tasks.expire(now=1e9)
    assert bench.assignments.assign(session)
    assert () == session.last_sent


def test_pieces_of_another_content_or_beyond_the_end_do_not_count(bench: Bench, wanted: Wish) -> None:
    bench.state(wanted("u", "n1", "n2", "n3"))
    bench.cached(4)
    for name, holding, expected in (("n1", ("g", 0b10011), 0b0011), ("n2", ("old", 0b1111), 0), ("n3", ("g", 15), 15)):
        session = bench.peer(name)
        session.holdings[ID] = holding
        bench.assignments.assign(session)
        assert expected == bench.managers.progress.pieces_by_cid(ID, name)
        assert (expected != 15) == (ID in session.open_tasks)
    assert DfgetTaskStatus.SUCCESS is bench.managers.dfget_tasks.known("n3", ID).status


def test_a_task_stays_open_until_the_copy_is_whole(bench: Bench, wanted: Wish) -> None:
    session = bench.peer("n1")
    session.holdings[ID] = ("g", 0b1111)
    bench.state(wanted("u", "n1"))
    task = bench.cached(4, status=CDNStatus.RUNNING)
    bench.assignments.assign(session)
    assert {ID: 0} == session.open_tasks
    bench.cached(4)
    bench.assignments.note_completion(session, task)
    assert {} == session.open_tasks


def test_an_unwanted_task_is_forgotten_with_progress_and_download(bench: Bench, wanted: Wish) -> None:
    session = bench.peer("n1")
    session.holdings[ID] = ("g", 1)
    bench.state(wanted("u", "n1"))
    bench.cached()
    bench.assignments.assign(session)
    bench.state(wanted("u", "n2"))
    assert bench.assignments.assign(session)
    assert ((), {}, {}) == (session.last_sent, session.holdings, session.open_tasks)
    assert bench.managers.dfget_tasks.get("n1", ID) is None
    assert not bench.assignments.takes_part("n1", ID)


def test_a_new_inventory_replaces_the_former_one(bench: Bench, wanted: Wish) -> None:
    session = bench.peer("n1")
    session.holdings[ID] = ("g", 0b1111)
    bench.state(wanted("u", "n1"))
    bench.cached()
    bench.assignments.assign(session)
    bench.managers.progress.init_task("other")
    session.holdings[ID] = ("g", 0b0001)
    bench.assignments.take_inventory(session)
    assert 0b0001 == bench.managers.progress.pieces_by_cid(ID, "n1")
    assert DfgetTaskStatus.RUNNING is bench.managers.dfget_tasks.known("n1", ID).status
    assert not bench.assignments.takes_part("n1", "other")


async def test_a_reader_of_another_boot_or_of_the_future_gets_everything(bench: Bench, wanted: Wish) -> None:
    bench.state(wanted("u"))
    bench.feed.touch_task(ID)
    for boot, since in (("", 0), ("other", 1), ("boot", 99)):
        changes = await bench.feed.changes(boot=boot, since=since, wait=60)
        assert (True, ["u"], 1) == (changes.full, [task.uid for task in changes.tasks], changes.version)


async def test_each_change_is_reported_once(bench: Bench, wanted: Wish) -> None:
    bench.state(wanted("u"), wanted("v"))
    bench.peer("n1")
    bench.feed.touch_task(ID)
    first = await bench.feed.changes(boot="boot", since=0, wait=0)
    assert ({"u", "v"}, (), ()) == ({task.uid for task in first.tasks}, first.peers, first.gone)
    bench.feed.touch_peer("n1")
    bench.feed.touch_dropped("w")
    second = await bench.feed.changes(boot="boot", since=first.version, wait=0)
    assert ((), ["n1"], ("w",)) == (second.tasks, [peer.name for peer in second.peers], second.gone)
    third = await bench.feed.changes(boot="boot", since=second.version, wait=0.01)
    assert (second.version, (), (), ()) == (third.version, third.tasks, third.peers, third.gone)


def test_an_unwanted_task_has_no_report(bench: Bench) -> None:
    bench.feed.touch_task(ID)
    assert bench.feed.task("u") is None


def test_a_report_has_the_copy_and_the_bytes_by_provider(bench: Bench, wanted: Wish) -> None:
    bench.state(wanted("u", "n1"))
    task = bench.cached(4)
    swarm = bench.managers.progress.tasks[ID]
    swarm.supernode_bytes, swarm.peer_bytes = 30, 10
    expected = TaskReport(
        uid="u",
        task_id=ID,
        cdn_status=task.copy.status,
        length=40,
        digest=task.copy.digest,
        piece_size=10,
        pieces_total=4,
        pieces_cached=4,
        supernode_bytes=30,
        peer_bytes=10,
    )
    assert expected == bench.feed.task("u")
    bench.managers.progress.delete_task(ID)
    assert 0 == (bench.feed.task("u") or expected).supernode_bytes


def test_peers_are_ready_failed_or_active(bench: Bench, wanted: Wish) -> None:
    names = ("ready", "failed", "moved", "active", "away", "unknown")
    bench.state(wanted("u", *names))
    for name in names[:-1]:
        bench.peer(name, connected=name != "away")
        bench.managers.dfget_tasks.add(name, ID)
    deliver = bench.managers.dfget_tasks.deliver
    deliver("ready", ID, "u", DeliveryState(DeliveryStatus.PUBLISHED, path="p/f"))
    deliver("failed", ID, "u", DeliveryState(DeliveryStatus.FAILED, "NodeDiskFull", "full", "p/f"))
    deliver("moved", ID, "u", DeliveryState(DeliveryStatus.PUBLISHED, path="p/old"))
    report = bench.feed.task("u")
    assert report is not None
    assert (("ready",), ("moved", "active"), 1) == (report.ready_peers, report.active_peers, report.failed_peers)
    assert (Failure("NodeDiskFull", "full", peer="failed"),) == report.failures


def test_a_report_names_some_failures_and_counts_all(bench: Bench, wanted: Wish) -> None:
    names = [f"n{number}" for number in range(MAX_FAILURES + 5)]
    bench.state(wanted("u", *names))
    for name in names:
        bench.managers.dfget_tasks.add(name, ID)
        state = DeliveryState(DeliveryStatus.FAILED, "NodeDiskFull", path="p/f")
        bench.managers.dfget_tasks.deliver(name, ID, "u", state)
    report = bench.feed.task("u")
    assert report is not None
    assert (MAX_FAILURES, len(names)) == (len(report.failures), report.failed_peers)


def test_a_peers_report_has_its_service(bench: Bench) -> None:
    bench.peer("n1", uploads=2, cache_bytes=7)
    bench.managers.progress.service["n1"].succeeded = 3
    expected = PeerReport("n1", True, "10.0.0.1", 65002, cache_bytes=7, uploads=2, succeeded=3)
    assert expected == bench.feed.peer("n1")
    assert PeerReport("n2", False) == bench.feed.peer("n2")


def test_a_task_that_is_no_longer_stated_is_reported_with_the_names_of_its_nodes(bench: Bench, wanted: Wish) -> None:
    """The table of the newest statement may lack them. The task may come back, and then nothing is reported again."""
    session = bench.peer("n1")
    bench.state(wanted("u", "n1"))
    bench.cached()
    bench.assignments.assign(session)
    bench.managers.dfget_tasks.deliver("n1", ID, "u", DeliveryState(DeliveryStatus.PUBLISHED, path="p/f"))
    stated = bench.feed.task("u", bench.managers.tasks.table)
    bench.state()
    left = bench.feed.task("u", bench.managers.tasks.table)
    assert stated is not None
    assert left is not None
    assert ("0", 0, ()) == (stated.ready, stated.active, stated.ready_peers)
    assert ("", None, ("n1",)) == (left.ready, left.active, left.ready_peers)
