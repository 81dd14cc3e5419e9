"""A node's certs.d: it names the mirror after each start, and is restored to the byte."""

import os
import stat
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pantala_peer.containerd import registry
from pantala_peer.containerd.command import main
from pantala_peer.containerd.configuration import ConfigurationReport, TokenOwner, cleanup, configure, keep_token
from pantala_peer.containerd.errors import FolderError
from tests.support.examples import examples

MIRROR = "http://127.0.0.1:65001"
THEIRS = b'# ours since 2024\nserver = "https://r.example"\n\n[host."https://cache"]\n  capabilities = ["pull"]'
PROBE = "localhost:65001"
TOKEN = "t0ken"
_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


class Node:
    def __init__(self, root: Path, *, further: bool = False) -> None:
        self.certs_d, self.state = root / "etc/containerd/certs.d", root / "var/state"
        self.further = root / "etc/docker/certs.d"
        self.folders = [self.certs_d, self.further] if further else [self.certs_d]

    def configure(self, *registries: str, token: str = TOKEN) -> ConfigurationReport:
        return configure(
            self.folders, self.state, [registry.parse_registry(name) for name in registries], MIRROR, token
        )

    def cleanup(self) -> ConfigurationReport:
        return cleanup(self.folders, self.state)

    def run(self, command: str, *flags: str) -> int:
        """Run the command, and return its exit status."""
        with pytest.raises(SystemExit) as ended:
            main([command, f"--certs-d={self.certs_d}", f"--containerd-state={self.state}", *flags])
        assert isinstance(ended.value.code, int)
        return ended.value.code

    def changed(self, report: ConfigurationReport) -> list[str]:
        """The names below ``certs.d``."""
        return [Path(path).name for path in report.changed if Path(path).parent == self.certs_d]

    def write(self, name: str, content: bytes, mode: int = 0o644) -> Path:
        path = self.certs_d / name / "hosts.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
        return path

    def hosts(self, name: str) -> list[str]:
        return list(self.document(name)["host"])

    def document(self, name: str) -> dict[str, Any]:
        return tomllib.loads((self.certs_d / name / "hosts.toml").read_text())


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.fixture
def two(tmp_path: Path) -> Node:
    """A node whose containerd reads two folders."""
    return Node(tmp_path, further=True)


def snapshot(root: Path) -> dict[str, tuple[int, bytes | str]]:
    """Everything below ``root``: modes, contents, targets of links."""
    tree = {}
    for path in sorted(root.rglob("*")):
        mode = path.lstat().st_mode
        content = path.readlink().as_posix() if path.is_symlink() else path.read_bytes() if path.is_file() else ""
        tree[str(path.relative_to(root))] = (mode, content)
    return tree


def test_an_empty_node_asks_the_mirror_first_and_is_empty_again_after_cleanup(node: Node, tmp_path: Path) -> None:
    report = node.configure("docker.io", "http://10.0.0.5:5000")
    assert ["10.0.0.5:5000", "_default", "docker.io", PROBE] == node.changed(report)
    assert ((), True) == report[1:]
    assert "server" not in node.document("_default")
    assert "https://registry-1.docker.io" == node.document("docker.io")["server"]
    assert "http://10.0.0.5:5000" == node.document("10.0.0.5:5000")["server"]
    assert [MIRROR] == node.hosts("_default")
    assert report == node.cleanup()
    assert {"var"} == snapshot(tmp_path).keys()


def test_tags_are_resolved_at_the_mirror_if_configured(node: Node) -> None:
    node.write("r.example", THEIRS)
    for flags, expected in (([], ["pull"]), (["--mirror-resolve=yes"], ["pull", "resolve"]), ([], ["pull"])):
        assert 0 == node.run("configure", "--registries=r.example,docker.io", *flags)
        for name in ("r.example", "docker.io", "_default"):
            assert expected == node.document(name)["host"][MIRROR]["capabilities"], name


def test_only_the_mirror_resolves_the_name_of_the_probe(node: Node) -> None:
    node.configure()
    assert MIRROR == node.document(PROBE)["server"]
    assert ["pull", "resolve"] == node.document(PROBE)["host"][MIRROR]["capabilities"]


def test_a_rewritten_file_is_configured_again_and_restored_as_it_is_now(node: Node) -> None:
    """K3s and others rewrite their files at each start."""
    path = node.write("r.example", THEIRS)
    node.configure("r.example")
    assert 0o600 == stat.S_IMODE(path.stat().st_mode), "only root reads the token"
    node.write("r.example", b'[host."https://new"]\n', 0o640)
    node.configure("r.example")
    assert [MIRROR, "https://new"] == node.hosts("r.example")
    node.cleanup()
    assert (b'[host."https://new"]\n', 0o640) == (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))


def test_a_registry_that_is_not_listed_any_more_is_restored(node: Node) -> None:
    node.write("r.example", THEIRS)
    node.configure("r.example", "docker.io")
    assert ["docker.io", "r.example"] == node.changed(node.configure())
    assert THEIRS == (node.certs_d / "r.example/hosts.toml").read_bytes()
    assert not (node.certs_d / "docker.io").exists()


def test_an_empty_directory_of_a_registry_hides_the_default_and_is_filled(node: Node) -> None:
    (node.certs_d / "r.example_5000_").mkdir(parents=True)
    node.configure("http://r.example:5000")
    assert "http://r.example:5000" == node.document("r.example_5000_")["server"]
    assert not (node.certs_d / "r.example:5000").exists()
    node.cleanup()
    assert [] == list((node.certs_d / "r.example_5000_").iterdir())


@pytest.mark.parametrize(
    ("name", "content", "note"),
    [
        ("hosts.toml", b"server = ", "r.example: containerd cannot use the mirror"),
        ("hosts.toml", b"host = 1", "r.example: containerd cannot use the mirror"),
        ("hosts.toml", b"\xff\xfe", "r.example: containerd cannot use the mirror"),
        ("ca.crt", b"x", "certificates"),
    ],
)
def test_an_unusable_directory_stays_in_force_and_is_noted(node: Node, name: str, content: bytes, note: str) -> None:
    path = node.write("r.example", content)
    path = path.rename(path.with_name(name))
    assert note in "".join(node.configure("r.example").notes)
    assert [path] == list(path.parent.iterdir())
    assert node.cleanup().finished
    assert content == path.read_bytes()


def test_links_are_not_followed(node: Node, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.mkdir()
    (target / "hosts.toml").write_bytes(THEIRS)
    node.certs_d.mkdir(parents=True)
    (node.certs_d / "a.example").symlink_to(target)
    (node.certs_d / "b.example").mkdir()
    (node.certs_d / "b.example/hosts.toml").symlink_to(target / "hosts.toml")
    assert 2 == len(node.configure("a.example", "b.example").notes)
    assert THEIRS == (target / "hosts.toml").read_bytes()
    assert (node.certs_d / "b.example/hosts.toml").is_symlink()


def test_an_unlisted_registry_with_its_own_directory_is_noted(node: Node) -> None:
    node.write("r.example", THEIRS)
    assert ["r.example"] == [note.partition(":")[0] for note in node.configure().notes]


def test_a_later_addition_stays_and_is_noted(node: Node) -> None:
    path = node.write("r.example", THEIRS, 0o640)
    node.configure("r.example")
    path.write_bytes(path.read_bytes() + b'\n[host."https://late"]\n')
    report = node.cleanup()
    assert THEIRS + b'\n[host."https://late"]\n' == path.read_bytes()
    assert 0o640 == stat.S_IMODE(path.stat().st_mode)
    assert (True, ["r.example: another program has changed hosts.toml; only Pantala's part was removed"]) == (
        report.finished,
        list(report.notes),
    )


def test_a_later_removal_stays_and_is_noted(node: Node) -> None:
    node.write("r.example", THEIRS)
    node.configure("r.example")
    (node.certs_d / "r.example/hosts.toml").unlink()
    assert ("r.example: another program has removed hosts.toml; it stays removed",) == node.cleanup().notes


def test_without_the_record_the_marks_suffice(node: Node) -> None:
    path = node.write("r.example", THEIRS)
    node.configure("r.example", "docker.io")
    (node.state / "record.json").unlink()
    node.cleanup()
    assert THEIRS == path.read_bytes()
    assert ["r.example"] == [entry.name for entry in node.certs_d.iterdir()]


def test_an_invalid_record_is_an_error_that_says_what_to_do(node: Node) -> None:
    node.configure()
    for name in ("record.json", "record.json.copy"):
        (node.state / name).write_text("{")
    with pytest.raises(FolderError, match="Move it away"):
        node.cleanup()


def test_a_token_is_created_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "made/token"
    token = keep_token(path)
    assert 32 < len(token)
    assert (token, 0o600) == (keep_token(path), stat.S_IMODE(path.stat().st_mode))
    path.write_text("")  # as after a crash
    assert 32 < len(keep_token(path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes owners")
def test_the_token_belongs_to_the_user_of_the_peer(tmp_path: Path) -> None:
    path = tmp_path / "made/token"
    token = keep_token(path)
    assert 0o700 == stat.S_IMODE(path.parent.stat().st_mode)
    assert token == keep_token(path, TokenOwner(65532, 65533))
    status = path.stat()
    assert (65532, 65533, 0o600) == (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))
    assert 0o711 == stat.S_IMODE(path.parent.stat().st_mode)


# Folders that containerd reads after the first


def test_a_registry_in_a_further_folder_keeps_its_settings(two: Node) -> None:
    """Containerd uses the first folder with its directory *or a default*: our default would hide its certificates."""
    corp = two.further / "corp.example:5000"
    corp.mkdir(parents=True)
    (corp / "ca.crt").write_text("x")
    report = two.configure("corp.example:5000")
    assert corp == (two.certs_d / "corp.example:5000").resolve()
    assert [str(corp)] == [note.partition(": ")[0] for note in report.notes]
    assert ConfigurationReport((), report.notes, finished=True) == two.configure("corp.example:5000")
    assert ["ca.crt"] == [path.name for path in corp.iterdir()]
    two.cleanup()
    assert not two.certs_d.exists()


def test_a_link_is_removed_with_its_target(two: Node) -> None:
    corp = two.further / "corp.example"
    corp.mkdir(parents=True)
    two.configure()
    corp.rmdir()
    assert ["corp.example"] == two.changed(two.configure())
    assert not (two.certs_d / "corp.example").is_symlink()


def test_a_changed_link_stays(two: Node) -> None:
    (two.further / "corp.example").mkdir(parents=True)
    two.configure()
    link = two.certs_d / "corp.example"
    link.unlink()
    link.symlink_to("/elsewhere")
    two.cleanup()
    assert "/elsewhere" == str(link.readlink())


def test_a_default_in_a_further_folder_stays_in_force(two: Node) -> None:
    default = two.further / "_default"
    default.mkdir(parents=True)
    report = two.configure("docker.io")
    assert [PROBE] == two.changed(report)
    assert [str(default)] == [note.partition(": ")[0] for note in report.notes]


def test_a_broken_link_does_not_make_our_default_hide_a_further_folder(two: Node) -> None:
    corp = two.further / "corp.example"
    corp.mkdir(parents=True)
    two.certs_d.mkdir(parents=True)
    (two.certs_d / "corp.example").symlink_to("nowhere")
    assert [str(corp)] == [note.partition(": ")[0] for note in two.configure().notes]
    assert corp == in_force(two, "corp.example")


def test_our_directory_yields_to_a_later_one(two: Node) -> None:
    two.configure("corp.example:5000")
    corp = two.further / "corp.example_5000_"
    corp.mkdir(parents=True)
    two.configure("corp.example:5000")
    assert corp == (two.certs_d / "corp.example_5000_").resolve()
    assert not (two.certs_d / "corp.example:5000").exists()


def test_a_list_is_also_written_as_the_name_of_one_folder(two: Node) -> None:
    """Containerd 2.1 to 2.4 reads it so, and has a list by default."""
    two.configure("docker.io")
    one = Path(":".join(map(str, two.folders)))
    assert {"_default", "docker.io", PROBE} == {path.name for path in one.iterdir()}
    two.cleanup()
    assert {"var"} == {path.name for path in two.state.parents[1].iterdir()}


# Any tree and any sequence of events.


class PowerCutError(BaseException):
    """The machine stops."""


_cut_after: list[int] = []


def _audit(event: str, _arguments: tuple[Any, ...]) -> None:
    if _cut_after and event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir"):
        _cut_after[0] -= 1
        if _cut_after[0] < 0:
            raise PowerCutError


sys.addaudithook(_audit)  # it cannot be removed; without a number in the list it does nothing


@contextmanager
def power_cut(after: int) -> Iterator[None]:
    """Stop before change number ``after``, if there are so many."""
    _cut_after[:] = [after]
    try:
        yield
    except PowerCutError:
        pass
    finally:
        _cut_after.clear()


NAMES = ["_default", "docker.io", "r.example", "r.example:5000", "r.example_5000_", "a-link"]
CONTENTS = [
    b"", b"\n", THEIRS, THEIRS + b"\n", b'[host."https://b"]\n[host."https://a"]\n', b'server = "https://s"',
    b"[host]\r\n[host.x]\r\n", b"nonsense", b"\xff", b'host = {x = {}}\n', b"ca = 'ca.crt'\n# <<< pantala\n",
]  # fmt: skip
PLACES = st.fixed_dictionaries(
    {},
    optional={
        name: st.tuples(st.sampled_from([None, *CONTENTS]), st.sampled_from([0o600, 0o644, 0o444]), st.booleans())
        for name in NAMES
    },
)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["configure", "configure", "cleanup"]),
        st.lists(st.sampled_from(["docker.io", "r.example", "http://r.example:5000"]), unique=True),
        st.sampled_from(["one", "two"]),
        st.integers(0, 25),
    ),
    max_size=5,
)


Places = dict[str, tuple[bytes | None, int, bool]]


def _build(folder: Path, places: Places) -> None:
    folder.mkdir(parents=True)
    for name, (content, mode, certificate) in places.items():
        if name == "a-link":
            (folder / name).symlink_to("r.example")
            continue
        (folder / name).mkdir()
        if content is not None:
            (folder / name / "hosts.toml").write_bytes(content)
            (folder / name / "hosts.toml").chmod(mode)
        if certificate:
            (folder / name / "ca.crt").write_text("x")


def has_content(directory: Path) -> bool:
    file = directory / "hosts.toml"
    return file.exists() and bool(file.read_bytes().strip())


def in_force(node: Node, host: str) -> Path | None:
    """The directory that containerd reads for a registry."""
    name, _, port = host.partition(":")
    names = [f"{name}_{port}_", host, "_default"] if port else [host, "_default"]
    paths = (folder / name for folder in node.folders for name in names)
    return next((path.resolve() for path in paths if path.exists()), None)


@settings(max_examples=examples(150), suppress_health_check=[HealthCheck.too_slow])
@given(places=st.none() | PLACES, further=st.none() | PLACES, events=EVENTS)
def test_cleanup_restores_any_tree_after_any_power_cut(
    places: Places | None, further: Places | None, events: list[tuple[str, list[str], str, int]]
) -> None:
    with tempfile.TemporaryDirectory(dir=_MEMORY) as folder:
        root = Path(folder)
        node = Node(root, further=True)
        (root / "etc").mkdir()
        for path, there in zip(node.folders, (places, further), strict=True):
            if there is not None:
                _build(path, there)
        before = snapshot(root / "etc")
        for what, registries, token, cut in events:
            with power_cut(cut):
                if what == "configure":
                    node.configure(*registries, token=token)
                else:
                    node.cleanup()
        node.configure("r.example", token="last")
        for path in node.certs_d.glob("*/hosts.toml"):
            if b">>> pantala" in path.read_bytes():
                assert MIRROR == next(iter(tomllib.loads(path.read_text())["host"]))
        assert ((), True) == node.configure("r.example", token="last")[::2]
        assert node.cleanup().finished
        assert before == snapshot(root / "etc")
        assert not (root / "var/state").exists() or [] == list((root / "var/state").iterdir())


def test_an_interrupted_change_does_not_count_as_an_edit(node: Node) -> None:
    node.write("r.example", THEIRS)
    node.configure("r.example")
    with power_cut(1):
        node.configure("r.example", token="another")
    report = node.cleanup()
    assert ["_default", PROBE, "r.example"] == node.changed(report)
    assert ((), True) == report[1:]


@settings(max_examples=examples(150), suppress_health_check=[HealthCheck.too_slow])
@given(
    places=PLACES, further=PLACES, registries=EVENTS.map(lambda events: [name for event in events for name in event[1]])
)
def test_settings_of_others_stay_in_force(places: Places, further: Places, registries: list[str]) -> None:
    with tempfile.TemporaryDirectory(dir=_MEMORY) as folder:
        node = Node(Path(folder), further=True)
        for path, there in zip(node.folders, (places, further), strict=True):
            _build(path, there)
        hosts = ["docker.io", "r.example", "r.example:5000", "other.example", "a-link"]
        before = {host: found for host in hosts if (found := in_force(node, host)) is not None}
        empty = {found for found in before.values() if found.name == "_default" and not has_content(found)}
        node.configure(*registries)
        for host, found in before.items():
            assert found in empty or found == in_force(node, host)


# The commands


def test_the_two_commands(node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == node.run("configure", "--registries=docker.io, http://r.example:5000")
    token = (tmp_path / "var/mirror-token").read_text()
    assert {"x-pantala-mirror": [token]} == node.document("docker.io")["host"][MIRROR]["header"]
    assert "docker.io" in capsys.readouterr().out
    assert 0 == node.run("cleanup")
    assert not node.certs_d.exists()


@pytest.mark.parametrize("flag", ["--registries=a b", "--mirror-resolve=true", "--mirror-token-owner=nobody"])
def test_an_invalid_flag_exits_with_2(node: Node, flag: str) -> None:
    assert 2 == node.run("configure", flag)


def test_an_unwritable_folder_is_an_error_that_names_it(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.certs_d.parent.parent.mkdir(parents=True)
    node.certs_d.parent.write_text("a file")
    assert 1 == node.run("configure")
    assert "Not a directory" in capsys.readouterr().err
