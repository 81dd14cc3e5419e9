"""The removal of the published files that the peer does not own, and of all."""

import hashlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from faults.crash_point import CrashPoint
from pantala_peer.cache.publisher import PublicationRequest, Publisher
from pantala_peer.cache.uninstall import clear
from pantala_peer.containerd import command
from pantala_pieces.file import Piece
from pantala_pieces.meta import Meta
from pantala_pieces.store import PieceStore
from tests.support.publisher_node import PublisherNode

FILE, BLOB = "a" * 64, "b" * 64
PUBLISHED_CONTENT = b"content"
PUBLISHED_SHA256 = hashlib.sha256(PUBLISHED_CONTENT)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with the pieces of a published file and of a blob."""
    store = PieceStore(tmp_path / "cache", durable=False)
    store.open()
    for name in (FILE, BLOB):
        store.create(Meta(name, "g", 1024, len(PUBLISHED_CONTENT))).put(
            [Piece(0, memoryview(PUBLISHED_CONTENT), PUBLISHED_SHA256.digest())]
        )
    store.close()
    publisher = Publisher(tmp_path)
    publisher.open()
    publisher.publish(
        PublicationRequest("some/where", FILE, tmp_path / "cache" / "aa" / FILE / "data", PUBLISHED_SHA256.hexdigest())
    )
    (tmp_path / "cache" / "images.json").write_bytes(b"{}")
    return tmp_path


def folders(root: Path) -> set[str]:
    return {str(path.relative_to(root)).partition("/")[0] for path in root.rglob("*")}


def test_published_files_stay_ours_and_everything_else_is_removed(root: Path) -> None:
    assert 1 == clear(root)
    assert [f"aa/{FILE}"] == [str(path.relative_to(root / "cache")) for path in root.glob("cache/*/*")]
    assert {"cache", "files", "published"} == folders(root)
    again = Publisher(root)
    again.open()
    assert ["some/where"] == again.paths(FILE)
    again.unpublish("some/where")
    assert 1 == clear(root)
    assert set() == folders(root)


def test_a_missing_root_is_not_created(tmp_path: Path) -> None:
    assert 0 == clear(tmp_path / "never")
    assert [] == list(tmp_path.iterdir())


def test_cleanup_clears_the_given_root(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directories = [f"--certs-d={root}/certs.d", f"--containerd-state={root}/containerd"]
    for flags, exists in (([], True), ([f"--root={root}"], False)):
        with pytest.raises(SystemExit, match="0"):
            command.main(["cleanup", *directories, *flags])
        assert exists == (root / "cache" / "bb" / BLOB).exists()
    assert "cached tasks removed: 1" in capsys.readouterr().out


def survives(action: Callable[[], None], at: int, folder: Path) -> bool:
    """Run an action in a process that is killed before this change of the disk. False: it was killed."""
    child = os.fork()
    if not child:
        try:
            CrashPoint(at, "before", folder).install()
            action()
            os._exit(0)
        finally:  # an error must not return into the tests
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0, "the action failed"
    return status == 0


@pytest.mark.parametrize("then", ["uninstall", "start"])
@pytest.mark.parametrize("action", ["publish", "replace", "unpublish"])
def test_after_a_kill_at_any_step_there_is_a_whole_file_or_nothing(tmp_path: Path, action: str, then: str) -> None:
    """An uninstall leaves no other trace. The next process can replace and remove the file, and leaves no trace."""
    at, finished = 0, False
    while not finished:
        at += 1
        root = tmp_path / f"{at}"
        node = PublisherNode(root)
        if action != "publish":
            node.publish("d/e/file", name="one", content=b"one")
        publish = partial(node.publish, "d/e/file", name=action, content=action.encode())
        finished = survives(
            partial(node.publisher.unpublish, "d/e/file") if action == "unpublish" else publish, at, root
        )
        if then == "uninstall":
            clear(root)
        else:
            node.publisher = node.opened()
        left = {path: path.read_bytes() for path in root.glob("files/**/*") if path.is_file()}
        assert left.keys() <= {root / "files/d/e/file"}, at
        assert set(left.values()) < {b"one", action.encode()}
        assert not finished or set(left.values()) == ({action.encode()} if action != "unpublish" else set())
        if then == "start":
            node.publish("d/e/file", name="last", content=b"last")
            assert b"last" == (root / "files/d/e/file").read_bytes()
            node.publisher.unpublish("d/e/file")
            assert [] == node.tree(), at
        elif not left:
            assert {"cache"} == folders(root), at
    assert at > 5
