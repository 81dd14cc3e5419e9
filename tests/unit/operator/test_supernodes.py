"""What the operator knows from several supernodes, and the adapters of supernodes and API servers."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from pantala_operator.events import ReplicasFound
from pantala_operator.resources.api import Metadata
from pantala_operator.resources.workloads import Ordinals, StatefulSet, StatefulSetSpec, StatefulSetStatus
from pantala_operator.supernodes import discovery
from pantala_operator.supernodes.view import SupernodeOverview, SupernodeView, TaskView
from pantala_protocol.statement import CDNStatus, Changes, Member, PeerReport, TaskReport, owner_among

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TASK = "f" * 64
ALL = ("s-0", "s-1", "s-2")
OWNER = owner_among(TASK, ALL) or ""
OTHER = next(name for name in ALL if name != OWNER)


def scaled(count: int, pods: int = 0, start: int = 0) -> ReplicasFound:
    spec = StatefulSetSpec("svc", count, Ordinals(start))
    found = StatefulSet(Metadata("s", "ns"), spec, StatefulSetStatus(pods))
    return discovery.of_stateful_set(found, discovery.service_url)


def members(supernodes: SupernodeOverview) -> dict[str, bool]:
    """Names, and whether they are leaving."""
    return {member.name: member.leaving for member in supernodes.members}


def reported(
    *tasks: TaskReport, gone: str = "", boot: str = "b", revision: int = 1, full: bool = False, **peers: bool
) -> Changes:
    connected = tuple(PeerReport(name, each) for name, each in peers.items())
    return Changes(boot, 1, revision, full, tasks, tuple(gone), connected)


def has(*names: str, status: CDNStatus = CDNStatus.SUCCESS, task_id: str = TASK, attempt: str = "1/") -> TaskReport:
    return TaskReport("u", task_id, attempt, status, ready_peers=names)


def view(supernodes: SupernodeOverview) -> TaskView:
    return supernodes.task_view("u", TASK, "1/")


@pytest.fixture
def supernodes() -> SupernodeOverview:
    """Three supernodes that have not reported."""
    made = SupernodeOverview()
    made.set_replicas(scaled(3))
    return made


def test_the_statefulset_names_the_supernodes() -> None:
    assert scaled(2).staying == (Member("s-0", "http://s-0.svc.ns:8002"), Member("s-1", "http://s-1.svc.ns:8002"))
    assert ["s-5", "s-6"] == [member.name for member in scaled(2, start=5).staying]
    assert ["s-1", "s-2"] == [member.name for member in scaled(1, pods=3).lingering]


def test_supernodes_of_a_list_are_named_by_host_and_port_and_a_single_one_has_no_name() -> None:
    urls = ("http://u:p@a:1", "https://b")
    assert (Member("a:1", urls[0]), Member("b", urls[1])) == discovery.of_urls(urls).staying
    supernodes = SupernodeOverview()
    supernodes.set_replicas(discovery.of_urls(["http://a:1"]))
    assert supernodes.membership(NOW) is None


def test_a_supernode_that_should_not_run_is_leaving_until_it_is_released(supernodes: SupernodeOverview) -> None:
    assert supernodes.set_replicas(scaled(1, pods=3))
    assert {"s-0": False, "s-1": True, "s-2": True} == members(supernodes)
    supernodes.release("s-2")
    assert not supernodes.set_replicas(scaled(1, pods=3))
    assert {"s-0": False, "s-1": True} == members(supernodes)
    supernodes.set_replicas(scaled(3, pods=3))
    assert dict.fromkeys(ALL, False) == members(supernodes)


def test_scaled_to_0_all_supernodes_stay_with_a_reason(supernodes: SupernodeOverview) -> None:
    supernodes.on_update("s-0", reported(has("a"), a=True))
    assert supernodes.set_replicas(scaled(0, pods=3))
    assert dict.fromkeys(ALL, False) == members(supernodes)
    found = view(supernodes)
    assert {"s-0"} == found.stated
    assert "the StatefulSet ns/s is scaled to 0. Scale it to 1 or more" == found.away
    supernodes.set_replicas(scaled(3))
    assert "" == view(supernodes).away


def test_the_revision_of_the_membership_grows_with_each_change_only(supernodes: SupernodeOverview) -> None:
    supernodes.on_update("s-0", reported(revision=int(NOW.timestamp() * 1000) + 5000))
    first = supernodes.membership(NOW)
    assert first is not None
    assert first.revision > NOW.timestamp() * 1000 + 5000, "a former operator stated a higher revision"
    assert first is supernodes.membership(NOW + timedelta(seconds=60))
    supernodes.set_replicas(scaled(2))
    second = supernodes.membership(NOW - timedelta(seconds=60))
    assert second is not None
    assert second.revision > first.revision
    assert supernodes.members == second.members


def test_all_reachable_supernodes_must_report_before_a_statement(supernodes: SupernodeOverview) -> None:
    supernodes.on_update("s-0", reported())
    supernodes.on_reachability("s-1", "timeout")
    before = supernodes.complete
    assert not before
    supernodes.on_update("s-2", reported())
    supernodes.set_replicas(ReplicasFound((*scaled(3).staying, Member("s-3", "http://x"))))
    assert supernodes.complete, "a later supernode delays nothing"


def test_a_peer_is_connected_if_a_reachable_supernode_says_so(supernodes: SupernodeOverview) -> None:
    supernodes.on_update("s-0", reported(a=True, b=False))
    supernodes.on_update("s-1", reported(a=False, b=True))
    assert {"a": True, "b": True} == {name: each.connected for name, each in supernodes.peers.items()}
    supernodes.on_reachability("s-1", "timeout")
    assert {"a": True, "b": False} == {name: each.connected for name, each in supernodes.peers.items()}


def test_counts_of_supernodes_add_up_and_counts_of_peers_do_not(supernodes: SupernodeOverview) -> None:
    for name, report in {
        "s-0": PeerReport("a", False, "", 0, cache_bytes=5, tasks=1, uploads=2, succeeded=3, failed=1),
        "s-1": PeerReport("a", True, "h", 9, cache_bytes=7, tasks=2, uploads=1, succeeded=4, failed=0),
    }.items():
        supernodes.on_update(name, Changes("b", 1, peers=(report,)))
    expected = PeerReport("a", True, "h", 9, cache_bytes=7, tasks=3, uploads=2, succeeded=7, failed=1)
    assert {"a": expected} == supernodes.peers


def test_only_tasks_of_an_unreachable_supernode_have_that_reason(supernodes: SupernodeOverview) -> None:
    supernodes.on_reachability(OWNER, "timeout")
    assert "timeout" == view(supernodes).away
    assert "" == supernodes.away
    supernodes.on_update(OTHER, reported(has("a"), a=True))
    assert "" == view(supernodes).away, "another supernode has it"


def test_a_report_about_other_content_does_not_count(supernodes: SupernodeOverview) -> None:
    supernodes.on_update(OTHER, reported(has("a", "b", task_id="e" * 64)))
    found = view(supernodes)
    assert {OWNER} == found.stated
    assert found.report is None
    supernodes.on_update(OWNER, reported(has()))
    assert frozenset() == view(supernodes).holders


def test_a_node_that_is_disconnected_during_a_move_is_remembered(supernodes: SupernodeOverview) -> None:
    """The former owner would remember it, too."""
    supernodes.on_update(OTHER, reported(has("a", "b"), a=True))
    supernodes.on_update(OWNER, reported(has("a"), a=True))
    assert {OWNER, OTHER} == view(supernodes).stated
    assert {"u"} == supernodes.on_statement(OWNER, ["u"], 1)
    assert {OWNER} == view(supernodes).stated
    supernodes.on_update(OTHER, reported(gone="u"))
    assert {"a", "b"} == view(supernodes).holders
    supernodes.on_update(OWNER, reported(b=True))
    assert {"a"} == view(supernodes).holders


def test_a_supernode_that_restarts_during_a_move_keeps_its_task(supernodes: SupernodeOverview) -> None:
    """If its first statement lacked the task, it would drop the only copy."""
    supernodes.on_update(OTHER, reported(has("a"), a=True))
    supernodes.on_update(OTHER, reported(boot="new", revision=0))
    found = view(supernodes)
    assert {OWNER, OTHER} == found.stated
    assert found.report is None
    assert {"a"} == found.holders
    supernodes.on_update(OTHER, reported(boot="new", revision=2))
    assert {OWNER} == view(supernodes).stated, "a statement without the task is in force"


def test_a_deleted_task_is_forgotten(supernodes: SupernodeOverview) -> None:
    for name in ALL:
        supernodes.on_update(name, reported(has("a")))
    supernodes.forget("u")
    assert (None, frozenset()) == (view(supernodes).report, view(supernodes).holders)


def test_h10_a_report_with_numbers_says_the_same_as_an_older_one_with_names(supernodes: SupernodeOverview) -> None:
    """A supernode of the former minor version sends names."""
    supernodes.on_update(OWNER, reported(has("a", "c"), a=True, b=True, c=True))
    old = view(supernodes)
    report = msgspec.structs.replace(has(), ready="0,2", active=1)
    changes = msgspec.structs.replace(reported(report, a=True, b=True, c=True), nodes=("a", "b", "c"), numbers=True)
    supernodes.on_update(OWNER, changes)
    new = view(supernodes)
    assert {"a", "c"} == set(new.holders) == set(old.holders)
    assert old.stated == new.stated


def test_h10_reports_of_other_nodes_mean_the_same_nodes(supernodes: SupernodeOverview) -> None:
    """Two supernodes may number the nodes in different ways, as while a node is added."""
    names = {OWNER: ("a", "b"), OTHER: ("0", "a", "b")}
    for name, ready in {OTHER: "1-2", OWNER: "0"}.items():
        report = msgspec.structs.replace(has(), ready=ready, active=0)
        changes = msgspec.structs.replace(reported(report, a=True, b=True), nodes=names[name], numbers=True)
        supernodes.on_update(name, changes)
    assert {OWNER, OTHER} == view(supernodes).stated, "the owner lacks the report of the node b"
    assert {"a", "b"} == set(view(supernodes).holders)


def test_files_on_nodes_survive_a_restart_of_the_supernode() -> None:
    """A holder is remembered until its peer reconnects and reports."""
    one = SupernodeView()
    one.on_update(reported(has("a", "b"), boot="one", a=True, b=True))
    assert {"a", "b"} == one.holders("u")
    one.on_update(reported(boot="two", full=True))
    assert {"a", "b"} == one.holders("u")
    one.on_update(reported(has(), boot="two"))
    assert {"a", "b"} == one.holders("u")
    one.on_update(reported(has("a"), boot="two", a=True, b=True))
    assert {"a"} == one.holders("u")
    one.on_update(reported(boot="two", b=False))
    assert {"a"} == one.holders("u")


def test_holders_of_an_older_attempt_do_not_count() -> None:
    one = SupernodeView()
    one.on_update(reported(has("a"), boot="one", a=True))
    one.on_update(reported(has(attempt="2/"), boot="two", full=True))
    assert frozenset() == one.holders("u")


def test_an_update_names_all_tasks_after_a_restart() -> None:
    one = SupernodeView()
    assert ({"u"}, True) == one.on_update(reported(has("a"), boot="one", a=True))
    assert (set(), False) == one.on_update(reported(boot="one", a=True))
    assert ({"u"}, True) == one.on_update(reported(boot="two", full=True))
    assert ({"u"}, False) == one.on_update(reported(has(), boot="two"))
    one.on_update(reported(boot="two", gone="u"))
    assert ({}, frozenset()) == (one.reports, one.holders("u"))
