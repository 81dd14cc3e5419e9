"""A node's certs.d: it names the mirror after each start, and is restored to the byte."""

import os
import stat
from pathlib import Path

import pytest

from pantala_peer.containerd.configuration import TokenOwner, keep_token
from pantala_peer.containerd.errors import FolderError
from tests.support.configured_node import MIRROR, PROBE, THEIRS, ConfiguredNode, snapshot
from tests.support.configured_node import node as node
from tests.support.unprivileged import unprivileged


def test_an_empty_node_asks_the_mirror_first_and_is_empty_again_after_cleanup(
    node: ConfiguredNode, tmp_path: Path
) -> None:
    report = node.configure("docker.io", "http://10.0.0.5:5000")
    assert ["10.0.0.5:5000", "_default", "docker.io", PROBE] == node.changed(report)
    assert ((), True) == report[1:]
    assert "server" not in node.document("_default")
    assert "https://registry-1.docker.io" == node.document("docker.io")["server"]
    assert "http://10.0.0.5:5000" == node.document("10.0.0.5:5000")["server"]
    assert [MIRROR] == node.hosts("_default")
    assert report == node.cleanup()
    assert {"var"} == snapshot(tmp_path).keys()


def test_tags_are_resolved_at_the_mirror_if_configured(node: ConfiguredNode) -> None:
    node.write("r.example", THEIRS)
    for flags, expected in (([], ["pull"]), (["--mirror-resolve=yes"], ["pull", "resolve"]), ([], ["pull"])):
        assert 0 == node.run("configure", "--registries=r.example,docker.io", *flags)
        for name in ("r.example", "docker.io", "_default"):
            assert expected == node.document(name)["host"][MIRROR]["capabilities"], name


def test_only_the_mirror_resolves_the_name_of_the_probe(node: ConfiguredNode) -> None:
    node.configure()
    assert MIRROR == node.document(PROBE)["server"]
    assert ["pull", "resolve"] == node.document(PROBE)["host"][MIRROR]["capabilities"]


def test_a_rewritten_file_is_configured_again_and_restored_as_it_is_now(node: ConfiguredNode) -> None:
    """K3s and others rewrite their files at each start."""
    path = node.write("r.example", THEIRS)
    node.configure("r.example")
    assert 0o600 == stat.S_IMODE(path.stat().st_mode), "only root reads the token"
    node.write("r.example", b'[host."https://new"]\n', 0o640)
    node.configure("r.example")
    assert [MIRROR, "https://new"] == node.hosts("r.example")
    node.cleanup()
    assert (b'[host."https://new"]\n', 0o640) == (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))


def test_a_registry_that_is_not_listed_any_more_is_restored(node: ConfiguredNode) -> None:
    node.write("r.example", THEIRS)
    node.configure("r.example", "docker.io")
    assert ["docker.io", "r.example"] == node.changed(node.configure())
    assert THEIRS == (node.certs_d / "r.example/hosts.toml").read_bytes()
    assert not (node.certs_d / "docker.io").exists()


def test_an_empty_directory_of_a_registry_hides_the_default_and_is_filled(node: ConfiguredNode) -> None:
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
def test_an_unusable_directory_stays_in_force_and_is_noted(
    node: ConfiguredNode, name: str, content: bytes, note: str
) -> None:
    path = node.write("r.example", content)
    path = path.rename(path.with_name(name))
    assert note in "".join(node.configure("r.example").notes)
    assert [path] == list(path.parent.iterdir())
    assert node.cleanup().finished
    assert content == path.read_bytes()


def test_a_directory_in_the_place_of_a_file_stays_and_is_noted(node: ConfiguredNode) -> None:
    """It used to be an error without the name of the file, and stopped all changes."""
    (node.certs_d / "r.example/hosts.toml/inner").mkdir(parents=True)
    assert "r.example: containerd cannot use the mirror" in "".join(node.configure("r.example").notes)
    assert node.cleanup().finished
    assert (node.certs_d / "r.example/hosts.toml/inner").is_dir()


def test_links_are_not_followed(node: ConfiguredNode, tmp_path: Path) -> None:
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


def test_an_unlisted_registry_with_its_own_directory_is_noted(node: ConfiguredNode) -> None:
    node.write("r.example", THEIRS)
    assert ["r.example"] == [note.partition(":")[0] for note in node.configure().notes]


def test_a_later_addition_stays_and_is_noted(node: ConfiguredNode) -> None:
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


def test_a_later_removal_stays_and_is_noted(node: ConfiguredNode) -> None:
    node.write("r.example", THEIRS)
    node.configure("r.example")
    (node.certs_d / "r.example/hosts.toml").unlink()
    assert ("r.example: another program has removed hosts.toml; it stays removed",) == node.cleanup().notes


def test_without_the_record_the_marks_suffice(node: ConfiguredNode) -> None:
    path = node.write("r.example", THEIRS)
    node.configure("r.example", "docker.io")
    (node.state / "record.json").unlink()
    node.cleanup()
    assert THEIRS == path.read_bytes()
    assert ["r.example"] == [entry.name for entry in node.certs_d.iterdir()]


def test_an_invalid_record_is_an_error_that_says_what_to_do(node: ConfiguredNode) -> None:
    node.configure()
    for name in ("record.json", "record.json.copy"):
        (node.state / name).write_text("{")
    with pytest.raises(FolderError, match="Move the file to another folder"):
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


# The commands


def test_the_two_commands(node: ConfiguredNode, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == node.run("configure", "--registries=docker.io, http://r.example:5000")
    token = (tmp_path / "var/mirror-token").read_text()
    assert {"x-pantala-mirror": [token]} == node.document("docker.io")["host"][MIRROR]["header"]
    assert "docker.io" in capsys.readouterr().out
    (tmp_path / "var/mirror-repair.json").write_text("{}")
    assert 0 == node.run("cleanup")
    assert [] == [*tmp_path.glob("etc/*"), *tmp_path.glob("var/*")]


@pytest.mark.parametrize("flag", ["--registries=a b", "--mirror-resolve=true", "--mirror-token-owner=nobody"])
def test_an_invalid_flag_exits_with_2(node: ConfiguredNode, flag: str) -> None:
    assert 2 == node.run("configure", flag)


def test_an_unwritable_folder_is_an_error_that_names_it(
    node: ConfiguredNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.certs_d.parent.parent.mkdir(parents=True)
    node.certs_d.parent.write_text("a file")
    assert 1 == node.run("configure")
    text = "Not a directory. Check this path. Then run this again.\n"
    assert capsys.readouterr().err.endswith(text)


@pytest.mark.parametrize("command", ["configure", "cleanup"])
def test_a_command_without_access_names_the_user_and_one_instruction(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with unprivileged() as folder:
        node = ConfiguredNode(folder)
        assert 0 == node.run("configure")
        for path in (node.state, node.state.parent):
            path.chmod(0o500)
        (node.state.parent / "mirror-token").chmod(0)
        capsys.readouterr()
        assert 1 == node.run(command)
    text = f". Give the user {65534 if not os.geteuid() else os.geteuid()}, as which this process runs, access to it."
    assert capsys.readouterr().err.endswith(f"{text} Then run this again.\n")
