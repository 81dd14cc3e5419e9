"""A second folder of configuration stays in force."""

from pathlib import Path

import pytest

from pantala_peer.containerd.configuration import ConfigurationReport
from tests.support.configured_node import PROBE, ConfiguredNode, in_force


@pytest.fixture
def two(tmp_path: Path) -> ConfiguredNode:
    """A node whose containerd reads two folders."""
    return ConfiguredNode(tmp_path, further=True)


# Folders that containerd reads after the first


def test_a_registry_in_a_further_folder_keeps_its_settings(two: ConfiguredNode) -> None:
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


def test_a_link_is_removed_with_its_target(two: ConfiguredNode) -> None:
    corp = two.further / "corp.example"
    corp.mkdir(parents=True)
    two.configure()
    corp.rmdir()
    assert ["corp.example"] == two.changed(two.configure())
    assert not (two.certs_d / "corp.example").is_symlink()


def test_a_changed_link_stays(two: ConfiguredNode) -> None:
    (two.further / "corp.example").mkdir(parents=True)
    two.configure()
    link = two.certs_d / "corp.example"
    link.unlink()
    link.symlink_to("/elsewhere")
    two.cleanup()
    assert "/elsewhere" == str(link.readlink())


def test_a_default_in_a_further_folder_stays_in_force(two: ConfiguredNode) -> None:
    default = two.further / "_default"
    default.mkdir(parents=True)
    report = two.configure("docker.io")
    assert [PROBE] == two.changed(report)
    assert [str(default)] == [note.partition(": ")[0] for note in report.notes]


def test_a_broken_link_does_not_make_our_default_hide_a_further_folder(two: ConfiguredNode) -> None:
    corp = two.further / "corp.example"
    corp.mkdir(parents=True)
    two.certs_d.mkdir(parents=True)
    (two.certs_d / "corp.example").symlink_to("nowhere")
    assert [str(corp)] == [note.partition(": ")[0] for note in two.configure().notes]
    assert corp == in_force(two, "corp.example")


def test_our_directory_yields_to_a_later_one(two: ConfiguredNode) -> None:
    two.configure("corp.example:5000")
    corp = two.further / "corp.example_5000_"
    corp.mkdir(parents=True)
    two.configure("corp.example:5000")
    assert corp == (two.certs_d / "corp.example_5000_").resolve()
    assert not (two.certs_d / "corp.example:5000").exists()


def test_a_list_is_also_written_as_the_name_of_one_folder(two: ConfiguredNode) -> None:
    """Containerd 2.1 to 2.4 reads it so, and has a list by default."""
    two.configure("docker.io")
    one = Path(":".join(map(str, two.folders)))
    assert {"_default", "docker.io", PROBE} == {path.name for path in one.iterdir()}
    two.cleanup()
    assert {"var"} == {path.name for path in two.state.parents[1].iterdir()}
