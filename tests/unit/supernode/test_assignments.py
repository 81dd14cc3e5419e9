"""Assignments, and the peers' part in the swarms."""

from pantala_protocol.statement import CDNStatus
from pantala_supernode.swarm.download import DfgetTaskStatus
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
    assert (True, {ID: None}) == (bench.assignments.takes_part("n1", ID), session.open_tasks)
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
    assert {ID: None} == session.open_tasks
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
