"""Which users may read published files, and which roots are safe."""

import os
from pathlib import Path

import pytest

from pantala_peer.cache.tree import FileAccess, check_root
from pantala_peer.errors import OutsideRootError
from pantala_pieces.errors import StoreError
from tests.support.publisher_node import PublisherNode
from tests.support.publisher_node import node as node


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


def test_a_root_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "root").touch()
    with pytest.raises(StoreError, match=r"/root as the root: it is a file and not a directory\. Give a folder"):
        check_root(tmp_path / "root")


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


def test_h6_by_default_only_the_group_of_the_peer_reads_files(node: PublisherNode) -> None:
    node.publish("a/models/x")
    found = [access_of(node.files / path) for path in ("a", "a/models", "a/models/x")]
    assert [(mode, os.getegid()) for mode in (0o750, 0o750, 0o440)] == found


def test_h6_a_changed_access_counts_for_published_files_too(node: PublisherNode) -> None:
    (node.files / "a").mkdir(mode=0o700)
    node.publish("a/models/x")
    node.opened(FileAccess(everyone=True))
    assert [0o755, 0o444] == [access_of(node.files / path)[0] for path in ("a/models", "a/models/x")]
    assert 0o700 == access_of(node.files / "a")[0], "a foreign folder stays as it is"
    node.opened()
    assert [0o750, 0o440] == [access_of(node.files / path)[0] for path in ("a/models", "a/models/x")]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files to any group")
def test_h6_files_and_folders_get_the_group_that_is_configured(node: PublisherNode) -> None:
    node.publisher = node.opened(FileAccess(group=4242))
    node.publish("a/x")
    assert [(0o750, 4242), (0o440, 4242)] == [access_of(node.files / path) for path in ("a", "a/x")]


def test_h6_a_group_of_which_the_peer_is_not_a_member_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    with pytest.raises(OutsideRootError, match="not a member of the group 4242"):
        check_root(tmp_path, 4242)
