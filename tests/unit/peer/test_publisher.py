"""Files are published below the root in one step, and foreign files are never touched."""

import hashlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pantala_peer.cache.publisher import components
from pantala_peer.errors import DeliveryError, OutsideRootError, PathConflictError
from pantala_pieces.digests import sha256_of
from pantala_pieces.errors import StoreError
from tests.support.examples import examples
from tests.support.publisher_node import CONTENT, OTHER, TASK, PublisherNode, snapshot
from tests.support.publisher_node import node as node

TRAVERSALS = [
    "", "/", "/etc/passwd", "..", ".", "../x", "a/../../x", "a/..", "./a", "a/./b", "a//b", "a/", "//a", "a\0b", "a\nb",
    "..\0", "a/" * 3000 + "b", "x" * 256, "ä" * 128, ".pantala-0123", "a/.pantala-x/b", "\ud800", "a\u202eb",
]  # fmt: skip


@pytest.mark.parametrize("path", TRAVERSALS)
def test_a12_a_path_that_is_not_plainly_below_the_root_is_rejected(node: PublisherNode, path: str) -> None:
    with pytest.raises(OutsideRootError):
        node.publish(path)
    assert [] == node.tree()


@pytest.mark.parametrize(
    "path", ["%2e%2e/x", "%252e%252e%252fx", "..\\x", "...", "..a/b..", "~/x", "-rf", "a b", "$(x)"]
)
def test_a12_odd_names_are_just_names(node: PublisherNode, tmp_path: Path, path: str) -> None:
    outside = set(tmp_path.iterdir())
    node.publish(path)
    assert CONTENT == (node.files / path).read_bytes()
    assert outside == set(tmp_path.iterdir())


@given(st.text(max_size=40))
@example("a/b")
def test_a_path_has_only_plain_components_or_is_rejected(path: str) -> None:
    try:
        names = components(path)
    except OutsideRootError:
        return
    assert path == "/".join(names)
    assert not {"", ".", ".."} & set(names)


def test_unpublishing_removes_the_file_and_our_empty_directories(node: PublisherNode) -> None:
    (node.files / "theirs").mkdir()
    for path, task in (("theirs/ours/file", TASK), ("d/e/one", TASK), ("d/two", OTHER)):
        node.publish(path, task)
    node.publisher.unpublish("theirs/ours/file")
    node.publisher.unpublish("d/e/one")
    assert ["d", "d/two", "theirs"] == node.tree()
    (node.files / "d/foreign").touch()
    node.publisher.unpublish("d/two")
    assert ["d", "d/foreign", "theirs"] == node.tree()
    assert set() == node.publisher.tasks()


@pytest.mark.parametrize("kind", ["file", "directory", "symlink", "dangling symlink", "fifo"])
def test_a_foreign_file_is_never_replaced_or_removed(node: PublisherNode, tmp_path: Path, kind: str) -> None:
    path = node.files / "file"
    target = tmp_path / "target"
    target.write_bytes(b"target")
    make: dict[str, Callable[[], object]] = {
        "file": lambda: path.write_bytes(b"theirs"),
        "directory": path.mkdir,
        "fifo": lambda: os.mkfifo(path),
        "symlink": lambda: path.symlink_to(target),
        "dangling symlink": lambda: path.symlink_to(tmp_path / "nowhere"),
    }
    make[kind]()
    before = snapshot(node.files)
    with pytest.raises(PathConflictError):
        node.publish("file")
    node.publisher.unpublish("file")
    assert before == snapshot(node.files)
    assert b"target" == target.read_bytes()


def test_a_foreign_file_with_the_same_content_satisfies_the_delivery(node: PublisherNode) -> None:
    (node.files / "file").write_bytes(CONTENT)
    inode = (node.files / "file").stat().st_ino
    node.publish("file")
    node.publisher.unpublish("file")
    assert inode == (node.files / "file").stat().st_ino
    (node.files / "file").write_bytes(b"other")
    with pytest.raises(PathConflictError):
        node.publish("file")


def test_a_huge_foreign_file_is_not_read(node: PublisherNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sparse file needs no room, but to read it takes hours. Meanwhile, no file of the node would be published."""
    with (node.files / "file").open("wb") as file:
        file.truncate(1 << 42)
    monkeypatch.setattr("pantala_peer.cache.publisher.sha256_of", None)
    with pytest.raises(PathConflictError):
        node.publish("file")


def test_a_foreign_file_that_grows_is_read_up_to_its_former_size(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT + b"more")
    with (tmp_path / "file").open("rb") as file:
        assert hashlib.sha256(CONTENT).hexdigest() == sha256_of(file, len(CONTENT))


def test_a_deleted_file_is_published_again_and_a_foreign_replacement_stays(node: PublisherNode) -> None:
    node.publish("d/file")
    (node.files / "d/file").unlink()
    (node.files / "d").rmdir()
    node.publish("d/file")
    assert CONTENT == (node.files / "d/file").read_bytes()
    (node.files / "d/file").unlink()
    (node.files / "d/file").write_bytes(b"theirs")
    with pytest.raises(PathConflictError):
        node.publish("d/file")
    node.publisher.unpublish("d/file")
    assert (node.files / "d/file").read_bytes() == b"theirs"


@pytest.mark.parametrize("path", ["link/file", "d/link/file", "link/d/file"])
def test_a12_a_symbolic_link_on_the_way_is_never_followed(node: PublisherNode, tmp_path: Path, path: str) -> None:
    outside = tmp_path / "outside"
    (outside / "d").mkdir(parents=True)
    (node.files / "d").mkdir()
    for link in (node.files / "link", node.files / "d/link"):
        link.symlink_to(outside)
    before = snapshot(outside)
    with pytest.raises(OutsideRootError):
        node.publish(path)
    assert before == snapshot(outside)


def test_a12_a_directory_that_became_a_link_is_not_followed_by_unpublishing(
    node: PublisherNode, tmp_path: Path
) -> None:
    node.publish("d/file")
    outside = tmp_path / "outside"
    outside.mkdir()
    os.link(node.source(), outside / "file")
    (node.files / "d/file").unlink()
    (node.files / "d").rmdir()
    (node.files / "d").symlink_to(outside)
    node.publisher.unpublish("d/file")
    assert (outside / "file").exists()


def test_a12_a_race_of_links_writes_inside(
    node: PublisherNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # otherwise both mostly wait for the disk
    outside = tmp_path / "outside"
    outside.mkdir()
    end, interval = threading.Event(), sys.getswitchinterval()

    def race() -> None:
        directory, link = node.files / "d", tmp_path / "link"
        while not end.is_set():
            link.symlink_to(outside)
            for one, other in ((directory, tmp_path / "aside"), (link, directory), (directory, link)):
                try:
                    one.rename(other)
                except OSError:
                    continue
            for path in (link, directory):
                if path.is_symlink():
                    path.unlink()

    thread = threading.Thread(target=race)
    sys.setswitchinterval(1e-5)  # instead of 5 ms, so that each step can be interrupted
    thread.start()
    try:
        for _ in range(examples(2000)):
            try:
                node.publish("d/e/file")
                node.publisher.unpublish("d/e/file")
            except (DeliveryError, StoreError):
                continue
    finally:
        end.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert [] == list(outside.rglob("*"))
