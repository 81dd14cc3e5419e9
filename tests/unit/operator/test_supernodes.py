"""What several supernodes say, as one."""

from datetime import UTC, datetime, timedelta

from pantala_operator.events import ReplicasFound
from pantala_operator.resources.api import Metadata
from pantala_operator.resources.workloads import Ordinals, StatefulSet, StatefulSetSpec, StatefulSetStatus
from pantala_operator.supernodes import discovery
from pantala_operator.supernodes.view import SupernodeOverview
from pantala_protocol.membership import Member, owner
from pantala_protocol.statement import CDNStatus, Changes, PeerReport, TaskReport

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TASK = "f" * 64
ALL = ("s-0", "s-1", "s-2")
OWNER = owner(TASK, ALL) or ""
OTHER = next(name for name in ALL if name != OWNER)


def scaled(count: int, pods: int = 0, start: int = 0) -> ReplicasFound:
    spec = StatefulSetSpec("svc", count, Ordinals(start))
    found = StatefulSet(Metadata("s", "ns"), spec, StatefulSetStatus(pods))
    return discovery.of_stateful_set(found, discovery.service_url)


def members(supernodes: SupernodeOverview) -> dict[str, bool]:
    """Names, and whether they leave."""
    return {member.name: member.leaving for member in supernodes.members}


def heard(*reports: TaskReport, gone: str = "", boot: str = "b", revision: int = 1, **peers: bool) -> Changes:
    told = tuple(PeerReport(name, connected) for name, connected in peers.items())
    return Changes(boot, 1, revision, tasks=reports, gone=tuple(gone), peers=told)


def has(*names: str, status: CDNStatus = CDNStatus.SUCCESS, task_id: str = TASK) -> TaskReport:
    return TaskReport("u", task_id, "1/", status, ready_peers=names)


def three() -> SupernodeOverview:
    supernodes = SupernodeOverview()
    supernodes.set_replicas(scaled(3))
    return supernodes


def test_the_statefulset_says_who_there_is() -> None:
    assert scaled(2).staying == (Member("s-0", "http://s-0.svc.ns:8002"), Member("s-1", "http://s-1.svc.ns:8002"))
    assert ["s-5", "s-6"] == [member.name for member in scaled(2, start=5).staying]
    assert ["s-1", "s-2"] == [member.name for member in scaled(1, pods=3).lingering]


def test_a_list_names_its_supernodes_by_host_and_port_and_one_alone_not_at_all() -> None:
    urls = ("http://u:p@a:1", "https://b")
    assert (Member("a:1", urls[0]), Member("b", urls[1])) == discovery.of_urls(urls).staying
    supernodes = SupernodeOverview()
    supernodes.set_replicas(discovery.of_urls(["http://a:1"]))
    assert supernodes.membership(NOW) is None


def test_who_is_no_longer_wanted_leaves_until_released() -> None:
    supernodes = three()
    assert supernodes.set_replicas(scaled(1, pods=3))
    assert {"s-0": False, "s-1": True, "s-2": True} == members(supernodes)
    supernodes.release("s-2")
    assert not supernodes.set_replicas(scaled(1, pods=3))
    assert {"s-0": False, "s-1": True} == members(supernodes)
    supernodes.set_replicas(scaled(3, pods=3))
    assert dict.fromkeys(ALL, False) == members(supernodes)


def test_an_operator_that_starts_while_some_leave_knows_of_them() -> None:
    supernodes = SupernodeOverview()
    supernodes.set_replicas(scaled(1, pods=3))
    assert {"s-0": False, "s-1": True, "s-2": True} == members(supernodes)


def test_scaled_to_0_all_is_kept_and_said() -> None:
    supernodes = three()
    supernodes.on_update("s-0", heard(has("a"), a=True))
    assert supernodes.set_replicas(scaled(0, pods=3))
    assert dict.fromkeys(ALL, False) == members(supernodes)
    standing = supernodes.task_view("u", TASK, "1/")
    assert {"s-0"} == standing.stated
    assert "the StatefulSet ns/s is scaled to 0; scale it to 1 or more" == standing.away
    supernodes.set_replicas(scaled(3))
    assert "" == supernodes.task_view("u", TASK, "1/").away


def test_the_memberships_revision_grows_with_each_change_and_with_no_other() -> None:
    supernodes = three()
    supernodes.on_update("s-0", heard(revision=int(NOW.timestamp() * 1000) + 5000))
    first = supernodes.membership(NOW)
    assert first is not None
    assert first.revision > NOW.timestamp() * 1000 + 5000, "older than one that another operator told"
    assert first is supernodes.membership(NOW + timedelta(seconds=60))
    supernodes.set_replicas(scaled(2))
    second = supernodes.membership(NOW - timedelta(seconds=60))
    assert second is not None
    assert second.revision > first.revision
    assert supernodes.members == second.members


def test_nothing_is_complete_before_all_who_answer_were_heard() -> None:
    supernodes = three()
    supernodes.on_update("s-0", heard())
    supernodes.on_reachability("s-1", "timeout")
    before = supernodes.complete
    assert not before
    supernodes.on_update("s-2", heard())
    supernodes.set_replicas(ReplicasFound((*scaled(3).staying, Member("s-3", "http://x"))))
    assert supernodes.complete, "who comes later holds nothing up"


def test_a_peer_is_connected_if_it_is_with_anybody_who_can_be_asked() -> None:
    supernodes = three()
    supernodes.on_update("s-0", heard(a=True, b=False))
    supernodes.on_update("s-1", heard(a=False, b=True))
    assert {"a": True, "b": True} == {name: each.connected for name, each in supernodes.peers.items()}
    supernodes.on_reachability("s-1", "timeout")
    assert {"a": True, "b": False} == {name: each.connected for name, each in supernodes.peers.items()}


def test_what_supernodes_count_adds_up_and_what_peers_say_does_not() -> None:
    supernodes = three()
    for name, report in {
        "s-0": PeerReport("a", False, "", 0, cache_bytes=5, tasks=1, uploads=2, succeeded=3, failed=1),
        "s-1": PeerReport("a", True, "h", 9, cache_bytes=7, tasks=2, uploads=1, succeeded=4, failed=0),
    }.items():
        supernodes.on_update(name, Changes("b", 1, peers=(report,)))
    expected = PeerReport("a", True, "h", 9, cache_bytes=7, tasks=3, uploads=2, succeeded=7, failed=1)
    assert {"a": expected} == supernodes.peers


def test_only_tasks_whose_supernode_is_away_say_so() -> None:
    supernodes = three()
    supernodes.on_reachability(OWNER, "timeout")
    assert "timeout" == supernodes.task_view("u", TASK, "1/").away
    assert "" == supernodes.away
    supernodes.on_update(OTHER, heard(has("a"), a=True))
    assert "" == supernodes.task_view("u", TASK, "1/").away, "another has it, and goes on"


def test_a_report_on_other_content_says_nothing() -> None:
    supernodes = three()
    supernodes.on_update(OTHER, heard(has("a", "b", task_id="e" * 64)))
    standing = supernodes.task_view("u", TASK, "1/")
    assert {OWNER} == standing.stated
    assert standing.report is None
    supernodes.on_update(OWNER, heard(has()))
    assert frozenset() == supernodes.task_view("u", TASK, "1/").holders


def test_a_node_that_is_away_during_the_move_is_remembered() -> None:
    """As it would be by the supernode that had the task before."""
    supernodes = three()
    supernodes.on_update(OTHER, heard(has("a", "b"), a=True))
    supernodes.on_update(OWNER, heard(has("a"), a=True))
    assert {OWNER} == supernodes.task_view("u", TASK, "1/").stated
    supernodes.on_update(OTHER, heard(gone="u"))
    assert {"a", "b"} == supernodes.task_view("u", TASK, "1/").holders
    supernodes.on_update(OWNER, heard(b=True))
    assert {"a"} == supernodes.task_view("u", TASK, "1/").holders


def test_who_is_released_leaves_its_word_behind() -> None:
    supernodes = three()
    supernodes.on_update(OTHER, heard(has("a", "b"), a=True))
    supernodes.on_update(OWNER, heard(has("a"), a=True))
    supernodes.set_replicas(ReplicasFound(tuple(each for each in supernodes.members if each.name != OTHER)))
    supernodes.release(OTHER)
    assert {"a", "b"} == supernodes.task_view("u", TASK, "1/").holders


def test_who_starts_before_restart_during_a_move_keeps_what_it_had() -> None:
    """Its first statement would else lack the task, and it would drop the only copy."""
    supernodes = three()
    supernodes.on_update(OTHER, heard(has("a"), a=True))
    supernodes.on_update(OTHER, heard(boot="new", revision=0))
    standing = supernodes.task_view("u", TASK, "1/")
    assert {OWNER, OTHER} == standing.stated
    assert standing.report is None
    assert {"a"} == standing.holders
    supernodes.on_update(OTHER, heard(boot="new", revision=2))
    assert {OWNER} == supernodes.task_view("u", TASK, "1/").stated, "it was told of nothing, and so has nothing"


def test_a_forgotten_task_is_forgotten_by_all() -> None:
    supernodes = three()
    for name in ALL:
        supernodes.on_update(name, heard(has("a")))
    supernodes.forget("u")
    assert (None, frozenset()) == (
        supernodes.task_view("u", TASK, "1/").report,
        supernodes.task_view("u", TASK, "1/").holders,
    )


def test_a_peers_leaving_and_a_tasks_end_are_news() -> None:
    supernodes = three()
    assert ({"u"}, True) == supernodes.on_update("s-0", heard(has("a"), a=True))
    assert ({"u"}, False) == supernodes.on_update("s-0", heard(gone="u"))
    assert (set(), True) == supernodes.on_update("s-0", heard(a=False))
