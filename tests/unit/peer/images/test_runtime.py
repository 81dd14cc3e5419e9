"""The mirror sees whether containerd asks it; the report says why not, and what to do."""

import asyncio
from collections.abc import Sequence

from pantala_peer.events import ImagesOrdered, PeerEvents
from pantala_peer.images.errors import RuntimeUnavailableError
from pantala_peer.images.helper import RuntimeHelper
from pantala_peer.images.runtime import RuntimeWatch
from pantala_peer.mirror.request import ProbeResult
from pantala_peer.sync.supernodes import SupernodeSessions
from pantala_protocol.images import NodeOrders, RuntimeState
from pantala_protocol.runtime import ImageFilesystem, MirrorStatus, PinningStatus, RuntimeStatus, RuntimeVersion
from tests.support.eventually import eventually

A, B = ("sha256:" + digit * 64 for digit in "ab")


class Reports(SupernodeSessions):
    def __init__(self) -> None:
        self.sent: list[RuntimeState] = []

    def report_runtime(self, runtime: RuntimeState, *, urgent: bool) -> None:
        self.sent.append(runtime)


class Scene(RuntimeHelper):
    """A helper whose probe the mirror sees as a test wants."""

    def __init__(self, in_force: bool | None = True, *, config_path: str | None = None, port: int = 65001) -> None:
        super().__init__(None)
        self.config_path = config_path
        self.in_force = in_force
        self.away = False
        self.seen: ProbeResult | None = None
        self.present: frozenset[str] | None = frozenset({A})
        self.probes: list[tuple[str, int]] = []
        self.now = 100.0
        self.free = 64 << 20
        self.pins: bool | None = None
        self.events = PeerEvents()
        self.reports = Reports()
        self.watch = RuntimeWatch(
            self,
            self.reports,
            "node-1",
            events=self.events,
            port=lambda: port,
            last_probe=lambda: self.seen,
            wall=lambda: self.now,
        )

    async def reported(self, times: int) -> None:
        await eventually(lambda: len(self.reports.sent) >= times)

    async def status(self) -> RuntimeStatus:
        if self.away:
            raise RuntimeUnavailableError("check that pantala-runtime runs")
        version, folder = RuntimeVersion("containerd", "1.6.20"), MirrorStatus(self.config_path)
        return RuntimeStatus(version, folder, PinningStatus(self.pins), ImageFilesystem(self.free))

    async def probe(self, node: str, port: int) -> None:
        self.probes.append((node, port))
        if self.in_force is not None:
            self.seen = ProbeResult(node, self.in_force, self.now)

    async def blobs(self, digests: Sequence[str]) -> frozenset[str] | None:
        return self.present


async def test_a_probe_by_our_file_shows_that_it_is_in_force() -> None:
    scene = Scene()
    expected = RuntimeState("containerd", "1.6.20", mirror=True, disk_free=64 << 20)
    assert expected == await scene.watch.look()
    assert [("node-1", 65001)] == scene.probes


async def test_without_a_folder_the_message_says_where_to_configure_it() -> None:
    for in_force in (False, None):
        state = await Scene(in_force, config_path="").watch.look()
        assert state.mirror is False
        assert 'config_path = "/etc/containerd/certs.d"' in state.message


async def test_with_another_folder_the_message_names_it() -> None:
    state = await Scene(None, config_path="/etc/other").watch.look()
    assert state.mirror is False
    assert "reads /etc/other" in state.message
    assert "pantala-peer configure" in state.message


async def test_an_earlier_or_foreign_probe_proves_nothing() -> None:
    scene = Scene(None)
    scene.seen = ProbeResult("node-1", in_force=True, at=99.0)
    assert (await scene.watch.look()).mirror is False
    scene.seen = ProbeResult("node-2", in_force=True, at=101.0)
    assert (await scene.watch.look()).mirror is False


async def test_a_peer_without_a_mirror_does_not_probe() -> None:
    scene = Scene(port=0)
    assert "--mirror-listen" in (await scene.watch.look()).message
    assert [] == scene.probes


async def test_without_a_helper_the_runtime_is_not_known() -> None:
    scene = Scene()
    scene.away = True
    assert RuntimeState(message="check that pantala-runtime runs") == await scene.watch.look()


async def test_the_blobs_of_a_survey_are_reported() -> None:
    scene = Scene()
    scene.events.emit(ImagesOrdered(NodeOrders(1, (), (A, B))))
    assert {A: True, B: False} == (await scene.watch.look()).blobs
    scene.present = None
    assert {} == (await scene.watch.look()).blobs


async def test_the_free_room_is_reported_in_large_steps() -> None:
    scene = Scene()
    scene.free = (64 << 20) * 3 - 1
    assert (64 << 20) * 2 == (await scene.watch.look()).disk_free


async def test_the_result_of_the_first_pin_is_reported_at_once() -> None:
    scene = Scene()
    running = asyncio.create_task(scene.watch.run())
    try:
        await scene.reported(1)
        scene.pins = False
        scene.watch.pinned(honoured=False)
        await scene.reported(2)
        assert [None, False] == [state.pins for state in scene.reports.sent]
        scene.watch.pinned(honoured=False)
        await asyncio.sleep(0.05)
        assert 2 == len(scene.reports.sent)
    finally:
        running.cancel()
