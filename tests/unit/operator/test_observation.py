"""The observation stays right although events come late, twice or not at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_operator.resources.api import Metadata, Node
from pantala_operator.watch.observation import Collection


def node(name: str, version: int, uid: str = "") -> Node:
    return Node(Metadata(name, uid=uid or f"uid-{name}", resource_version=str(version)))


@pytest.fixture
def nodes() -> Collection[Node]:
    return Collection()


def versions(collection: Collection[Node]) -> dict[str, str]:
    return {key: item.metadata.resource_version for key, item in collection.items.items()}


def test_a_deletion_does_not_remove_the_successor(nodes: Collection[Node]) -> None:
    nodes.update(node("a", 5, "new"))
    assert not nodes.remove(node("a", 4, "old"))
    assert {"a": "5"} == versions(nodes)


def test_a_full_list_finds_what_the_watch_missed(nodes: Collection[Node]) -> None:
    nodes.update(node("gone", 1))
    nodes.update(node("changed", 2))
    before = nodes.begin_list()
    nodes.end_list(before, [node("changed", 4), node("new", 3)])
    assert {"changed": "4", "new": "3"} == versions(nodes)
    assert nodes.listed


def test_changes_during_a_full_list_count(nodes: Collection[Node]) -> None:
    """The watch may be ahead of the list, which shows some moment between its start and its end."""
    nodes.update(node("deleted", 1))
    nodes.update(node("changed", 2))
    before = nodes.begin_list()
    nodes.remove(node("deleted", 5))
    nodes.update(node("created", 6))
    nodes.update(node("changed", 7))
    nodes.end_list(before, [node("deleted", 1), node("changed", 2)])
    assert {"created": "6", "changed": "7"} == versions(nodes)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 9), st.booleans()), max_size=12))
def test_the_newest_reading_wins_in_any_order(events: list[tuple[str, int, bool]]) -> None:
    """A deletion is final, because a UID is never used again."""
    nodes: Collection[Node] = Collection()
    for name, version, gone in events:
        before = versions(nodes)
        changed = (nodes.remove if gone else nodes.update)(node(name, version))
        assert changed == (before != versions(nodes))
    dead = {name for name, _, gone in events if gone}
    expected = {
        name: str(max(version for other, version, _ in events if other == name))
        for name, _, _ in events
        if name not in dead
    }
    assert expected == versions(nodes)
