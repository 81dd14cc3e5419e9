"""Files are published below the root in one step, and foreign files are never touched."""

import errno
import hashlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pantala_peer.cache.publisher import FileAccess, PublicationRequest, Publisher, check_root, components
from pantala_peer.errors import DeliveryError, OutsideRootError, PathConflictError
from pantala_pieces.errors import StoreError
from pantala_pieces.whole import sha256_of
from tests.support.examples import examples

TASK, OTHER = "a" * 64, "b" * 64
CONTENT = b"the whole file"


class Node:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = root / "files"
        check_root(root)
        (root / "cache").mkdir(exist_ok=True)
        self.publisher = self.opened()

    def opened(self, access: FileAccess | None = None) -> Publisher:
        publisher = Publisher(self.root, access)
        publisher.open()
        return publisher

    def source(self, name: str = "data", content: bytes = CONTENT) -> Path:
        path = self.root / "cache" / name
        if not path.exists():
            path.write_bytes(content)
        return path

    def publish(self, path: str, task: str = TASK, name: str = "data", content: bytes = CONTENT) -> None:
        self.publisher.publish(
            PublicationRequest(path, task, self.source(name, content), hashlib.sha256(content).hexdigest())
        )

    def tree(self) -> list[str]:
        return sorted(str(path.relative_to(self.files)) for path in self.files.rglob("*"))


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path / "root")


def snapshot(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Everything below a directory: type and mode, content or target."""
    found: dict[str, tuple[int, bytes]] = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        target = os.fsencode(path.readlink()) if path.is_symlink() else b""
        found[str(path)] = (status.st_mode, target or (path.read_bytes() if path.is_file() else b""))
    return found


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


TRAVERSALS = [
    "", "/", "/etc/passwd", "..", ".", "../x", "a/../../x", "a/..", "./a", "a/./b", "a//b", "a/", "//a", "a\0b", "a\nb",
    "..\0", "a/" * 3000 + "b", "x" * 256, "ä" * 128, ".pantala-0123", "a/.pantala-x/b", "\ud800", "a\u202eb",
]  # fmt: skip


@pytest.mark.parametrize("path", TRAVERSALS)
def test_a12_a_path_that_is_not_plainly_below_the_root_is_rejected(node: Node, path: str) -> None:
    with pytest.raises(OutsideRootError):
        node.publish(path)
    assert [] == node.tree()


@pytest.mark.parametrize(
    "path", ["%2e%2e/x", "%252e%252e%252fx", "..\\x", "...", "..a/b..", "~/x", "-rf", "a b", "$(x)"]
)
def test_a12_odd_names_are_just_names(node: Node, tmp_path: Path, path: str) -> None:
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


def test_unpublishing_removes_the_file_and_our_empty_directories(node: Node) -> None:
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
def test_a_foreign_file_is_never_replaced_or_removed(node: Node, tmp_path: Path, kind: str) -> None:
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


def test_a_foreign_file_with_the_same_content_satisfies_the_delivery(node: Node) -> None:
    (node.files / "file").write_bytes(CONTENT)
    inode = (node.files / "file").stat().st_ino
    node.publish("file")
    node.publisher.unpublish("file")
    assert inode == (node.files / "file").stat().st_ino
    (node.files / "file").write_bytes(b"other")
    with pytest.raises(PathConflictError):
        node.publish("file")


def test_a_huge_foreign_file_is_not_read(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_deleted_file_is_published_again_and_a_foreign_replacement_stays(node: Node) -> None:
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
def test_a12_a_symbolic_link_on_the_way_is_never_followed(node: Node, tmp_path: Path, path: str) -> None:
    outside = tmp_path / "outside"
    (outside / "d").mkdir(parents=True)
    (node.files / "d").mkdir()
    for link in (node.files / "link", node.files / "d/link"):
        link.symlink_to(outside)
    before = snapshot(outside)
    with pytest.raises(OutsideRootError):
        node.publish(path)
    assert before == snapshot(outside)


def test_a12_a_directory_that_became_a_link_is_not_followed_by_unpublishing(node: Node, tmp_path: Path) -> None:
    node.publish("d/file")
    outside = tmp_path / "outside"
    outside.mkdir()
    os.link(node.source(), outside / "file")
    (node.files / "d/file").unlink()
    (node.files / "d").rmdir()
    (node.files / "d").symlink_to(outside)
    node.publisher.unpublish("d/file")
    assert (outside / "file").exists()


def test_a12_a_race_of_links_writes_inside(node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_failed_publication_leaves_no_directories(node: Node) -> None:
    with pytest.raises(StoreError):
        node.publisher.publish(PublicationRequest("d/e/file", TASK, node.root / "cache/nowhere", "00"))
    assert [] == node.tree()


def test_a_folder_that_cannot_be_given_to_its_group_leaves_nothing(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: FileAccess, file: int, mode: int) -> None:
        raise PermissionError("the group cannot be set")

    monkeypatch.setattr(FileAccess, "grant", refuse)
    before = descriptors()
    with pytest.raises(StoreError, match="group"):
        node.publish("d/e/file")
    assert [] == node.tree()
    assert before == descriptors()


class Crash(BaseException):
    """The process ends at this step."""


def test_after_a_crash_at_any_step_the_next_process_can_continue(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next process can publish, replace and remove the file, and leaves no trace."""
    for content in (b"one", b"two"):
        for step in range(40):
            count = 0

            def crash(real: object, step: int = step) -> object:
                def call(*args: object, **kwargs: object) -> object:
                    nonlocal count
                    count += 1
                    if count > step:
                        raise Crash
                    return real(*args, **kwargs)  # type: ignore[operator]

                return call

            with monkeypatch.context() as patch:
                for name in ("link", "rename", "fsync", "mkdir", "unlink", "rmdir"):
                    patch.setattr(os, name, crash(getattr(os, name)))
                try:
                    node.publish("d/e/file", name=content.decode(), content=content)
                    finished = True
                except Crash:
                    finished = False
            published = node.files / "d/e/file"
            assert not published.exists() or published.read_bytes() in (b"one", b"two")
            node.publisher = node.opened()
            if finished:
                break
        assert published.read_bytes() == content
    node.publisher.unpublish("d/e/file")
    assert [] == node.tree()


def test_a_foreign_file_that_the_peer_may_not_read_is_a_conflict(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
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
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> os.stat_result:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    node.publish("file")
    with monkeypatch.context() as patch:
        patch.setattr("pantala_peer.cache.publisher._look", broken)
        with pytest.raises(StoreError):
            node.publish("file", OTHER)


def test_a_remainder_that_cannot_be_removed_does_not_stop_the_peer(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
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
    node = Node(tmp_path_factory.mktemp("root"))
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


@pytest.mark.parametrize("name", [".", "files", "cache", "published"])
@pytest.mark.parametrize("kind", ["symlink", "file", "writable by all"])
def test_a5_a_root_that_other_users_could_redirect_is_rejected(tmp_path: Path, name: str, kind: str) -> None:
    root = tmp_path / "root"
    path = root / name
    path.parent.mkdir(exist_ok=True)
    if name == "." and kind != "writable by all":
        path = root
    if kind == "symlink":
        (tmp_path / "elsewhere").mkdir()
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "file":
        path.touch()
    else:
        path.mkdir(exist_ok=True)
        path.chmod(0o777)
    with pytest.raises((OutsideRootError, StoreError)):
        check_root(root)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a5_a_root_of_another_user_is_rejected(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    os.chown(root, 12345, 12345)
    with pytest.raises(OutsideRootError):
        check_root(root)


def access_of(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mode & 0o7777, status.st_gid


def test_h6_by_default_only_the_group_of_the_peer_reads_files(node: Node) -> None:
    node.publish("a/models/x")
    found = [access_of(node.files / path) for path in ("a", "a/models", "a/models/x")]
    assert [(mode, os.getegid()) for mode in (0o750, 0o750, 0o440)] == found


def test_h6_a_changed_access_counts_for_published_files_too(node: Node) -> None:
    (node.files / "a").mkdir(mode=0o700)
    node.publish("a/models/x")
    node.opened(FileAccess(everyone=True))
    assert [0o755, 0o444] == [access_of(node.files / path)[0] for path in ("a/models", "a/models/x")]
    assert 0o700 == access_of(node.files / "a")[0], "a foreign folder stays as it is"
    node.opened()
    assert [0o750, 0o440] == [access_of(node.files / path)[0] for path in ("a/models", "a/models/x")]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files to any group")
def test_h6_files_and_folders_get_the_group_that_is_configured(node: Node) -> None:
    node.publisher = node.opened(FileAccess(group=4242))
    node.publish("a/x")
    assert [(0o750, 4242), (0o440, 4242)] == [access_of(node.files / path) for path in ("a", "a/x")]


def test_h6_a_group_of_which_the_peer_is_not_a_member_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    with pytest.raises(OutsideRootError, match="not a member of the group 4242"):
        check_root(tmp_path, 4242)
