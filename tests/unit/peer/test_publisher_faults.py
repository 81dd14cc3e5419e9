"""A publication that fails, or that a crash ends, leaves nothing behind."""

import errno
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pantala_peer.cache.publisher import PublicationRequest
from pantala_peer.cache.tree import FileAccess
from pantala_peer.errors import PathConflictError
from pantala_pieces.errors import StoreError
from tests.support.examples import examples
from tests.support.publisher_node import CONTENT, OTHER, TASK, PublisherNode, descriptors
from tests.support.publisher_node import node as node


def test_a_failed_publication_leaves_no_directories(node: PublisherNode) -> None:
    with pytest.raises(StoreError):
        node.publisher.publish(PublicationRequest("d/e/file", TASK, node.root / "cache/nowhere", "00"))
    assert [] == node.tree()


def test_a_folder_that_cannot_be_given_to_its_group_leaves_nothing(
    node: PublisherNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: FileAccess, file: int, mode: int) -> None:
        raise PermissionError("the group cannot be set")

    monkeypatch.setattr(FileAccess, "grant", refuse)
    before = descriptors()
    with pytest.raises(StoreError, match="group"):
        node.publish("d/e/file")
    assert [] == node.tree()
    assert before == descriptors()


def test_a_foreign_file_that_the_peer_may_not_read_is_a_conflict(
    node: PublisherNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer is not root on a node, so it may not read a file of root with the mode 0600."""
    (node.files / "file").write_bytes(CONTENT)
    opened = os.open

    def refuse(path: object, *arguments: Any, **options: Any) -> int:
        if path == "file":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return opened(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PathConflictError):
        node.publish("file")


def test_a_path_of_another_task_that_cannot_be_seen_is_a_failure_of_the_disk(
    node: PublisherNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> os.stat_result:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    node.publish("file")
    with monkeypatch.context() as patch:
        patch.setattr("pantala_peer.cache.publisher.look", broken)
        with pytest.raises(StoreError):
            node.publish("file", OTHER)


def test_a_remainder_that_cannot_be_removed_does_not_stop_the_peer(
    node: PublisherNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    node.publish("d/file", name="one", content=b"one")
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail)
        with pytest.raises(StoreError):
            node.publish("d/file", name="two", content=b"two")
    assert 3 == len(node.tree())
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", fail)
        assert ["d/file"] == node.opened().paths(TASK)
    node.publisher = node.opened()
    assert ["d", "d/file"] == node.tree()


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.sampled_from(["a", "b/c", "b/d", "b", "e/f/g"]), st.booleans(), st.booleans())))
def test_unpublished_files_leave_nothing(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, bool, bool]]
) -> None:
    node = PublisherNode(tmp_path_factory.mktemp("root"))
    for path, publish, restart in steps:
        if restart:
            node.publisher = node.opened()
        if not publish:
            node.publisher.unpublish(path)
            continue
        try:
            node.publish(path)
        except PathConflictError:
            assert path == "b" or (node.files / "b").is_file()
        else:
            assert CONTENT == (node.files / path).read_bytes()
    for path in node.publisher.paths(TASK):
        node.publisher.unpublish(path)
    assert [] == node.tree()
    assert [] == list((node.root / "published").iterdir())
