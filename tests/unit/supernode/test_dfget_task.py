"""Downloads by peer and task: their states, and what each deletion removes."""

import pytest

from pantala_protocol.sync import DeliveryState, DeliveryStatus
from pantala_supernode.errors import EmptyValueError, NotFoundError
from pantala_supernode.swarm.download import DfgetTask, DfgetTaskManager, DfgetTaskStatus

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
