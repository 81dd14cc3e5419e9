"""Whether containerd asks the mirror is seen at the mirror, and why it does not is said with what to do."""

import asyncio
from collections.abc import Sequence

from pantala_peer.events import ImagesOrdered, PeerEvents
from pantala_peer.images.errors import RuntimeUnavailableError
from pantala_peer.images.ports import Credentials, Image, Status
from pantala_peer.images.runtime import RuntimeWatch
from pantala_peer.mirror.probe import Sighting
from pantala_protocol.images import NodeOrders, PullState, RuntimeState
from tests.support.eventually import eventually

A, B = ("sha256:" + digit * 64 for digit in "ab")


class Scene:
    """A helper whose probe is seen as a test says."""

    def __init__(self, in_force: bool | None = True, *, config_path: str | None = None, port: int = 65001) -> None:
        self.config_path = config_path
        self.in_force = in_force
        self.away = False
        self.sighting: Sighting | None = None
        self.present: frozenset[str] | None = frozenset({A})
        self.probes: list[tuple[str, int]] = []
        self.said: list[tuple[RuntimeState, bool]] = []
        self.now = 100.0
        self.free = 64 << 20
        self.pins: bool | None = None
        self.events = PeerEvents()
        self.watch = RuntimeWatch(
            self,
            self,
            "node-1",
            events=self.events,
            port=lambda: port,
            sighting=lambda: self.sighting,
            wall=lambda: self.now,
        )

    async def told(self, times: int) -> None:
        await eventually(lambda: len(self.said) >= times)

    async def status(self) -> Status:
        if self.away:
            raise RuntimeUnavailableError("check that pantala-runtime runs")
        return Status("containerd", "1.6.20", self.config_path, self.pins, self.free)

    async def probe(self, node: str, port: int) -> None:
        self.probes.append((node, port))
        if self.in_force is not None:
            self.sighting = Sighting(node, self.in_force, self.now)

    async def blobs(self, digests: Sequence[str]) -> frozenset[str] | None:
        return self.present

    async def images(self) -> list[Image]:
        raise AssertionError("nobody asked for that")

    async def pull(self, image: str, *, timeout: int, credentials: Credentials | None) -> None:
        raise AssertionError("nobody asked for that")

    async def name(self, image: str, name: str) -> None:
        raise AssertionError("nobody asked for that")

    async def pin(self, image: str) -> bool:
        raise AssertionError("nobody asked for that")

    async def unpin(self, image: str) -> None:
        raise AssertionError("nobody asked for that")

    def report_pulls(self, pulls: dict[str, PullState], *, urgent: bool) -> None:
        raise AssertionError("nobody asked for that")

    def report_runtime(self, runtime: RuntimeState, *, urgent: bool) -> None:
        self.said.append((runtime, urgent))


async def test_a_probe_that_came_by_our_file_shows_that_it_is_in_force() -> None:
    scene = Scene()
    expected = RuntimeState("containerd", "1.6.20", mirror=True, disk_free=64 << 20)
    assert expected == await scene.watch.look()
    assert [("node-1", 65001)] == scene.probes


async def test_without_a_folder_it_says_where_to_name_it() -> None:
    for in_force in (False, None):
        state = await Scene(in_force, config_path="").watch.look()
        assert state.mirror is False
        assert 'config_path = "/etc/containerd/certs.d"' in state.message


async def test_with_another_folder_it_says_which() -> None:
    state = await Scene(None, config_path="/etc/other").watch.look()
    assert state.mirror is False
    assert "reads /etc/other" in state.message
    assert "pantala-peer configure" in state.message


async def test_what_was_seen_before_the_probe_proves_nothing() -> None:
    scene = Scene(None)
    scene.sighting = Sighting("node-1", in_force=True, at=99.0)
    assert (await scene.watch.look()).mirror is False
    scene.sighting = Sighting("node-2", in_force=True, at=101.0)
    assert (await scene.watch.look()).mirror is False


async def test_a_peer_without_a_mirror_does_not_probe() -> None:
    scene = Scene(port=0)
    assert "--mirror-listen" in (await scene.watch.look()).message
    assert [] == scene.probes


async def test_a_helper_that_is_away_is_a_runtime_that_is_not_known() -> None:
    scene = Scene()
    scene.away = True
    assert RuntimeState(message="check that pantala-runtime runs") == await scene.watch.look()


async def test_the_blobs_that_are_asked_for_are_told() -> None:
    scene = Scene()
    scene.events.emit(ImagesOrdered(NodeOrders(1, (), (A, B))))
    assert {A: True, B: False} == (await scene.watch.look()).blobs
    scene.present = None
    assert {} == (await scene.watch.look()).blobs


async def test_the_room_on_the_disk_is_told_in_large_steps() -> None:
    scene = Scene()
    scene.free = (64 << 20) * 3 - 1
    assert (64 << 20) * 2 == (await scene.watch.look()).disk_free


async def test_what_becomes_of_the_first_pin_is_told_at_once() -> None:
    scene = Scene()
    running = asyncio.create_task(scene.watch.run())
    try:
        await scene.told(1)
        scene.pins = False
        scene.watch.pinned(heeded=False)
        await scene.told(2)
        assert [None, False] == [state.pins for state, _ in scene.said]
        scene.watch.pinned(heeded=False)
        await asyncio.sleep(0.05)
        assert 2 == len(scene.said)
    finally:
        running.cancel()
