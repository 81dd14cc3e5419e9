"""The removal of the published files that the peer does not own, and of all."""

import hashlib
from pathlib import Path

import pytest

from pantala_peer.cache.publisher import PublicationRequest, Publisher
from pantala_peer.cache.uninstall import clear
from pantala_peer.containerd import command
from pantala_pieces.file import Piece
from pantala_pieces.meta import Meta
from pantala_pieces.store import PieceStore

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
