"""What is known stays right though events come late, twice, or not at all."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pantala_operator.resources.api import Metadata, Node
from pantala_operator.supernodes.view import SupernodeView
from pantala_operator.watch.observation import Collection
from pantala_protocol.statement import Changes, PeerReport, TaskReport


def node(name: str, version: int, uid: str = "") -> Node:
    return Node(Metadata(name, uid=uid or f"uid-{name}", resource_version=str(version)))


def versions(collection: Collection[Node]) -> dict[str, str]:
    return {key: item.metadata.resource_version for key, item in collection.items.items()}


def test_an_old_event_does_not_undo_a_newer_one() -> None:
    nodes: Collection[Node] = Collection()
    assert nodes.update(node("a", 10))
    assert not nodes.update(node("a", 9))
    assert not nodes.update(node("a", 10))
    assert {"a": "10"} == versions(nodes)


def test_a_late_event_does_not_bring_the_dead_back() -> None:
    nodes: Collection[Node] = Collection()
    nodes.update(node("a", 1))
    assert nodes.remove(node("a", 2))
    assert not nodes.update(node("a", 1))
    assert {} == versions(nodes)


def test_the_end_of_one_is_not_the_end_of_its_successor() -> None:
    nodes: Collection[Node] = Collection()
    nodes.update(node("a", 5, "new"))
    assert not nodes.remove(node("a", 4, "old"))
    assert {"a": "5"} == versions(nodes)


def test_a_full_list_finds_what_watching_missed() -> None:
    nodes: Collection[Node] = Collection()
    nodes.update(node("gone", 1))
    nodes.update(node("changed", 2))
    before = nodes.begin_list()
    nodes.end_list(before, [node("changed", 4), node("new", 3)])
    assert {"changed": "4", "new": "3"} == versions(nodes)
    assert nodes.listed


def test_what_happens_during_a_full_list_counts() -> None:
    """The list was made at some moment while it was under way; watching may have been ahead of it."""
    nodes: Collection[Node] = Collection()
    nodes.update(node("deleted", 1))
    nodes.update(node("changed", 2))
    before = nodes.begin_list()
    nodes.remove(node("deleted", 5))
    nodes.update(node("created", 6))
    nodes.update(node("changed", 7))
    nodes.end_list(before, [node("deleted", 1), node("changed", 2)])
    assert {"created": "6", "changed": "7"} == versions(nodes)


def heard(boot: str, *reports: TaskReport, full: bool = False, **peers: bool) -> Changes:
    told = tuple(PeerReport(name, connected) for name, connected in peers.items())
    return Changes(boot, 1, 1, full, reports, (), told)


def has(*names: str, attempt: str = "1/") -> TaskReport:
    return TaskReport("u", "t", attempt, ready_peers=names)


def test_a_restarted_supernode_does_not_make_files_vanish() -> None:
    """Who has the file is remembered until the peer is back and says for itself."""
    view = SupernodeView()
    view.on_update(heard("one", has("a", "b"), a=True, b=True))
    assert {"a", "b"} == view.holders("u")
    view.on_update(heard("two", full=True))
    assert {"a", "b"} == view.holders("u")
    view.on_update(heard("two", has()))
    assert {"a", "b"} == view.holders("u")
    view.on_update(heard("two", has("a"), a=True, b=True))
    assert {"a"} == view.holders("u")
    view.on_update(heard("two", b=False))
    assert {"a"} == view.holders("u")


def test_what_was_held_for_an_older_attempt_does_not_count() -> None:
    view = SupernodeView()
    view.on_update(heard("one", has("a"), a=True))
    view.on_update(heard("two", has(attempt="2/"), full=True))
    assert frozenset() == view.holders("u")


def test_what_concerns_which_task() -> None:
    view = SupernodeView()
    assert ({"u"}, True) == view.on_update(heard("one", has("a"), a=True))
    assert (set(), False) == view.on_update(heard("one", a=True))
    assert ({"u"}, True) == view.on_update(heard("two", full=True))
    assert ({"u"}, False) == view.on_update(heard("two", has()))
    view.on_update(msgspec.structs.replace(heard("two"), gone=("u",)))
    assert ({}, frozenset()) == (view.reports, view.holders("u"))


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 9), st.booleans()), max_size=12))
def test_the_newest_reading_wins_in_any_order(events: list[tuple[str, int, bool]]) -> None:
    """Without deletions: the highest version seen. A deletion is for good, since a UID never comes back."""
    nodes: Collection[Node] = Collection()
    for name, version, gone in events:
        if gone:
            nodes.remove(node(name, version))
        else:
            nodes.update(node(name, version))
    dead = {name for name, _, gone in events if gone}
    expected = {
        name: str(max(version for other, version, _ in events if other == name))
        for name, _, _ in events
        if name not in dead
    }
    assert expected == versions(nodes)
