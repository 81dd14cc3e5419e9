"""The feed of changes: what it reports, when, and what it leaves out."""

from pantala_protocol.statement import Failure, PeerReport, TaskReport
from pantala_protocol.sync import DeliveryState, DeliveryStatus
from pantala_supernode.sync.feed import MAX_FAILURES
from tests.unit.supernode.conftest import ID, Bench, Wish


async def test_a_reader_of_another_boot_or_of_the_future_gets_everything(bench: Bench, wanted: Wish) -> None:
    bench.state(wanted("u"))
    bench.feed.touch_task(ID)
    for boot, since in (("", 0), ("other", 1), ("boot", 99)):
        changes = await bench.feed.changes(boot=boot, since=since, wait=60)
        assert (True, ["u"], 1) == (changes.full, [task.uid for task in changes.tasks], changes.version)


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
