"""Supernode, peers and an origin that reach each other over IPv6 alone, and both families at one address."""

from pathlib import Path

from pantala_process.settings import ListenAddress
from pantala_protocol import task_id
from pantala_protocol.statement import WantedTask
from testbed.origin import Behaviour, Generated, Origin
from testbed.process import free_ports
from tests.support.peer_lab import peer
from tests.support.supernode_lab import SupernodeLab

BODY = Generated(6 * 1024 * 1024, seed=6)


async def test_a_file_crosses_a_network_without_ipv4(tmp_path: Path) -> None:
    """The slow origin makes the peers give each other pieces."""
    api, pieces = free_ports(2)
    everywhere = {"listen": ListenAddress("::", api), "piece_listen": ListenAddress("::", pieces), "advertise": "::1"}
    url = f"http://[::1]:{api}"
    async with Origin("::1") as origin, SupernodeLab(tmp_path, **everywhere) as lab:
        origin.serve("/file", BODY, always=Behaviour(rate=6e6))
        roots = {name: tmp_path / name for name in ("node-1", "node-2", "node-3")}
        async with (
            peer(url, roots["node-1"], "node-1", host="::1"),
            peer(url, roots["node-2"], "node-2", host="::1"),
            peer(url, roots["node-3"], "node-3", host="::1"),
        ):
            url_of_file = origin.url("/file")
            task = task_id.compute(url_of_file)
            await lab.state(WantedTask("u", "ns/t", task, url_of_file, path="f", peers=tuple(roots), attempt="1/"))
            changes = await lab.until(lambda report: report.tasks and len(report.tasks[0].ready_peers) == len(roots))
            for root in roots.values():
                assert BODY.read(0, BODY.size) == (root / "files" / "f").read_bytes()
            assert {"::1"} == {each.address for each in changes.peers}
            assert changes.tasks[0].peer_bytes > 0
            assert BODY.size == origin.body_bytes("/file")


async def test_an_ipv4_peer_of_a_supernode_for_both_families_has_its_usual_address(tmp_path: Path) -> None:
    api, pieces = free_ports(2)
    everywhere = {"listen": ListenAddress("::", api), "piece_listen": ListenAddress("::", pieces)}
    async with (
        SupernodeLab(tmp_path, **everywhere) as lab,
        peer(f"http://127.0.0.1:{api}", tmp_path / "old", "old", host="::"),
        peer(f"http://[::1]:{api}", tmp_path / "new", "new", host="::"),
    ):
        changes = await lab.until(lambda report: len(report.peers) == 2)
        assert {"old": "127.0.0.1", "new": "::1"} == {each.name: each.address for each in changes.peers}
