"""Another program changes containerd's files: the watch restores our part within a minute, and leaves a note."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pantala_peer.containerd import registry
from pantala_peer.containerd.configuration import deciding, views
from pantala_peer.containerd.watch import INTERVAL, SETTLE, ConfigurationWatch, RepairNote, note_file, read_note
from pantala_pieces.records import copy_of
from tests.support.configured_node import MIRROR, THEIRS, TOKEN, ConfiguredNode
from tests.support.eventually import eventually

pytestmark = pytest.mark.virtual_time

NAMES = ["docker.io", "r.example"]
WALL = 1_750_000_000.0


class Node(ConfiguredNode):
    """A configured node, whose files a test can watch."""

    def __init__(self, root: Path, *, further: bool = False) -> None:
        super().__init__(root, further=further)
        self.root = root
        self.token_file = root / "var/mirror-token"
        self.token_file.parent.mkdir()
        self.token_file.write_text(TOKEN)
        self.wall = WALL

    def watch(self) -> ConfigurationWatch:
        return ConfigurationWatch(
            views(self.folders, self.state),
            lambda: deciding([registry.parse_registry(name) for name in NAMES], MIRROR, TOKEN),
            self.token_file,
            wall=lambda: self.wall,
        )

    def file(self, name: str) -> Path:
        return self.certs_d / name / "hosts.toml"

    @property
    def note(self) -> RepairNote | None:
        return read_note(self.token_file)

    def files(self) -> dict[str, tuple[bytes, int]]:
        """All files with their content and inode: a rewritten file has another one."""
        found = (path for path in self.root.rglob("*") if path.is_file())
        return {str(path.relative_to(self.root)): (path.read_bytes(), path.stat().st_ino) for path in found}


@pytest.fixture
def node(tmp_path: Path) -> Node:
    node = Node(tmp_path)
    node.configure(*NAMES)
    return node


@contextlib.asynccontextmanager
async def watching(node: Node) -> AsyncIterator[None]:
    running = asyncio.create_task(node.watch().run())
    try:
        await asyncio.sleep(1.0)
        yield
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


def overwrite(node: Node) -> None:
    """As k3s writes its own file."""
    node.file("r.example").write_bytes(THEIRS)


def remove_all(node: Node) -> None:
    """As k3s removes the folder."""
    shutil.rmtree(node.certs_d)


def take_out(node: Node) -> None:
    """An administrator removes our lines."""
    node.file("docker.io").write_text("")


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (overwrite, ("r.example",)),
        (remove_all, ("_default", "docker.io", "localhost:65001", "r.example")),
        (take_out, ("docker.io",)),
    ],
)
async def test_our_part_is_back_within_a_minute(node: Node, change: object, names: tuple[str, ...]) -> None:
    async with watching(node):
        assert callable(change)
        change(node)
        begun = asyncio.get_running_loop().time()
        await eventually(lambda: node.note is not None, within=60)
        assert asyncio.get_running_loop().time() - begun <= INTERVAL + SETTLE + 1
        assert all(MIRROR in node.hosts(name) for name in names)
    assert RepairNote(int(WALL), names) == node.note
    assert 0o644 == note_file(node.token_file).stat().st_mode & 0o777


async def test_the_other_programs_content_stays_below_our_part_and_is_restored(node: Node) -> None:
    async with watching(node):
        overwrite(node)
        await eventually(lambda: node.note is not None, within=60)
    restored = node.file("r.example").read_bytes()
    assert (True, True) == (restored.endswith(THEIRS.partition(b"\n\n")[2]), MIRROR.encode() in restored)
    node.cleanup()
    assert THEIRS == node.file("r.example").read_bytes()


async def test_an_unchanged_node_is_only_read(node: Node) -> None:
    before = node.files()
    async with watching(node):
        await asyncio.sleep(10 * INTERVAL)
    assert before == node.files()
    assert node.note is None


async def test_a_file_in_the_middle_of_a_change_is_left_alone(node: Node) -> None:
    """A rename over a file that the other program has open would lose what it writes then."""
    watch = node.watch()
    for size in (20, 40, 60):
        node.file("r.example").write_bytes(THEIRS[:size])
        assert watch.step()
        assert THEIRS[:size] == node.file("r.example").read_bytes()
    node.file("r.example").write_bytes(THEIRS)
    assert [True, False] == [watch.step(), watch.step()]
    assert MIRROR in node.hosts("r.example")


async def test_after_the_clean_up_nothing_comes_back(node: Node) -> None:
    async with watching(node):
        node.cleanup()
        node.token_file.unlink()
        overwrite_later = node.file("r.example")
        overwrite_later.parent.mkdir(parents=True)
        overwrite_later.write_bytes(THEIRS)
        await asyncio.sleep(10 * INTERVAL)
    assert {"etc/containerd/certs.d/r.example/hosts.toml"} == node.files().keys()
    assert not node.state.exists()


async def test_a_clean_up_between_two_steps_wins(node: Node) -> None:
    watch = node.watch()
    overwrite(node)
    assert watch.step()
    node.cleanup()
    assert not watch.step()
    assert THEIRS == node.file("r.example").read_bytes()
    assert (False, None) == (node.state.exists(), node.note)


async def test_a_node_that_was_never_configured_is_left_alone(tmp_path: Path) -> None:
    node = Node(tmp_path)
    assert not node.watch().step()
    assert {"var/mirror-token"} == node.files().keys()


async def test_a_program_that_changes_the_file_again_and_again_is_noted_every_ten_minutes(node: Node) -> None:
    watch, notes = node.watch(), []
    for _ in range(40):
        overwrite(node)
        assert [True, False] == [watch.step(), watch.step()]
        notes.append(node.note)
        node.wall += 30
    assert [WALL, WALL + 600] == sorted({float(note.at) for note in notes if note is not None})


async def test_a_failed_repair_is_noted_until_it_succeeds(node: Node) -> None:
    watch = node.watch()
    overwrite(node)
    watch.step()
    record = node.state / "record.json"
    good = record.read_bytes()
    record.write_bytes(b"{")
    copy_of(record).write_bytes(b"{")
    watch.step()
    assert node.note is not None
    assert "record.json is not valid" in node.note.fault
    record.write_bytes(good)
    while watch.step():
        pass
    assert RepairNote(int(WALL), ("r.example",)) == node.note
    assert MIRROR in node.hosts("r.example")


async def test_a_fault_is_noted_all_the_time(node: Node) -> None:
    """Every second step only waits for the end of a change. The status used to change with each step."""
    node.file("r.example").with_name(".hosts.toml.pantala").mkdir()
    overwrite(node)
    watch = node.watch()
    watch.step()
    for _ in range(4):
        watch.step()
        assert node.note is not None
        assert "r.example" in node.note.fault


async def test_a_fault_that_passed_leaves_no_note(node: Node) -> None:
    watch, record = node.watch(), node.state / "record.json"
    good = record.read_bytes()
    record.write_bytes(b"{")
    copy_of(record).write_bytes(b"{")
    watch.step()
    record.write_bytes(good)
    assert not watch.step()
    assert node.note is None


async def test_all_folders_are_watched(tmp_path: Path) -> None:
    node = Node(tmp_path, further=True)
    node.configure(*NAMES)
    watch, other = node.watch(), Path(":".join(map(str, node.folders))) / "docker.io" / "hosts.toml"
    other.unlink()
    assert [True, False] == [watch.step(), watch.step()]
    assert MIRROR in other.read_text()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"at": "x"}', b"\xff", b"null"])
def test_an_unreadable_note_is_none(tmp_path: Path, content: bytes) -> None:
    note_file(tmp_path / "token").write_bytes(content)
    assert read_note(tmp_path / "token") is None
    assert read_note(None) is None


@pytest.mark.parametrize(
    ("note", "text"),
    [
        (
            RepairNote(1764338400, ("docker.io",)),
            "Another program changed hosts.toml of docker.io at 2025-11-28T14:00:00Z. The peer restored its part.",
        ),
        (RepairNote(0, tuple("abcdefg")), "of a, b, c, d, e, and more at 1970-01-01"),
        (RepairNote(0, fault="it is read-only"), "it is read-only. The peer tries again every 20 s"),
    ],
)
def test_what_the_note_says(note: RepairNote, text: str) -> None:
    assert text in str(note)


@pytest.mark.parametrize("configured", [True, False])
async def test_a_watch_without_anything_to_restore_says_so(node: Node, configured: bool) -> None:
    if not configured:
        node.cleanup()
    with capture_logs() as logged:
        running = asyncio.create_task(node.watch().run())
        await asyncio.sleep(3 * INTERVAL)
        running.cancel()
    expected = [] if configured else ["run pantala-peer configure"]
    assert expected == [each["event"].rpartition("; ")[2] for each in logged]
