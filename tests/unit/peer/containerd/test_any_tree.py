"""Any tree of configuration survives any changes and power cuts."""

import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.configured_node import MIRROR, PROBE, THEIRS, ConfiguredNode, has_content, in_force, snapshot
from tests.support.configured_node import node as node
from tests.support.examples import examples

_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
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


@settings(max_examples=examples(150), suppress_health_check=[HealthCheck.too_slow])
@given(places=st.none() | PLACES, further=st.none() | PLACES, events=EVENTS)
def test_cleanup_restores_any_tree_after_any_power_cut(
    places: Places | None, further: Places | None, events: list[tuple[str, list[str], str, int]]
) -> None:
    with tempfile.TemporaryDirectory(dir=_MEMORY) as folder:
        root = Path(folder)
        node = ConfiguredNode(root, further=True)
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


def test_an_interrupted_change_does_not_count_as_an_edit(node: ConfiguredNode) -> None:
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
        node = ConfiguredNode(Path(folder), further=True)
        for path, there in zip(node.folders, (places, further), strict=True):
            _build(path, there)
        hosts = ["docker.io", "r.example", "r.example:5000", "other.example", "a-link"]
        before = {host: found for host in hosts if (found := in_force(node, host)) is not None}
        empty = {found for found in before.values() if found.name == "_default" and not has_content(found)}
        node.configure(*registries)
        for host, found in before.items():
            assert found in empty or found == in_force(node, host)
