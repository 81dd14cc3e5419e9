"""The API server is away while files are distributed. ``PANTALA_OUTAGE`` sets for how many seconds (25)."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from testbed.origin import Behaviour, Generated
from tests.support.product_stage import MIB, NODES, ProductStage

AWAY = float(os.environ.get("PANTALA_OUTAGE", "25"))

pytestmark = [pytest.mark.controlplane, pytest.mark.timeout(150 + int(AWAY))]

EARLY, SLOW = Generated(2 * MIB, seed=1), Generated(8 * MIB, seed=2)


async def test_f10_no_download_fails_while_the_api_server_is_away(tmp_path: Path) -> None:
    """Supernode and peers go on. The peers also get files that they lost, and a killed supernode its statement.

    After the API server's return, the status is right within 30 s, and the same operator leads in the same term.
    """
    async with ProductStage(tmp_path) as stage:
        stage.supernode()
        stage.operator("--lease", "default/pantala-operator")
        for name in NODES:
            stage.peer(name)
        stage.origin.serve("/early", EARLY)
        stage.origin.serve("/slow", SLOW, always=Behaviour(rate=SLOW.size / 20))
        await stage.joined()
        await stage.apply("early", stage.origin.url("/early"))
        await stage.ready("early", seconds=60)
        await stage.apply("slow", stage.origin.url("/slow"))
        await stage.until(lambda: stage.status("slow").get("pieces", {}).get("cached", 0) > 0, "slow is under way")
        lease = "/apis/coordination.k8s.io/v1/namespaces/default/leases/pantala-operator"
        before = (await stage.ask("GET", lease))["spec"]

        await asyncio.to_thread(stage.control_plane.stop_apiserver)
        gone = time.monotonic()
        await asyncio.sleep(AWAY / 2)
        stage.kill("supernode")
        stage.supernode()
        published = stage.published("default/slow").values()
        await stage.until(lambda: all(at.exists() for at in published), "slow is published everywhere", 90)
        await asyncio.sleep(max(0.0, gone + AWAY - time.monotonic()))
        assert not stage.is_ready("slow")
        away = time.monotonic() - gone
        back = time.monotonic()
        await asyncio.to_thread(stage.control_plane.start_apiserver)
        await stage.ready("slow", seconds=30)
        right = time.monotonic() - back
        print(f"after {away:.0f} s without an API server, the status is right {right:.1f} s after its return")
        assert right < 30
        stage.assert_held("default/slow", SLOW)
        stage.assert_held("default/early", EARLY)
        assert stage.is_ready("early")
        after = (await stage.ask("GET", lease))["spec"]
        assert (before["holderIdentity"], 1) == (after["holderIdentity"], after["leaseTransitions"])
        assert [] == stage.violations
        for name, process in stage.processes.items():
            assert process.returncode is None, f"{name} ended"
            assert "Traceback" not in stage.log(name), name
