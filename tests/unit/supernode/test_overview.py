"""What the supernode says about downloads when there are very many of them."""

from types import SimpleNamespace
from typing import Any, cast

from pantala_pieces.usage import Usage
from pantala_supernode.origin.arrivals import Arrivals
from pantala_supernode.swarm.task_progress import SUPERNODE
from pantala_supernode.sync.overview import Overview
from tests.unit.supernode.conftest import ID, Bench, Wish

PEERS = ("a", "b", "c", "d")


def overview(bench: Bench, most: int) -> Overview:
    store = SimpleNamespace(usage=lambda: Usage(50, 100))
    cdn = cast("Any", SimpleNamespace(worker=SimpleNamespace(arrivals=Arrivals()), copies=SimpleNamespace(store=store)))
    sync = cast("Any", SimpleNamespace(is_silent=lambda _session, _now: False))
    return Overview(
        "boot", bench.managers, sync, bench.dispatcher.sessions, cdn, clock=bench.clock, wall=bench.clock, most=most
    )


async def test_the_answer_is_bounded_and_names_downloads_with_a_rate_first(bench: Bench, wanted: Wish) -> None:
    bench.state(wanted("u", *PEERS))
    task = bench.cached()
    for name in PEERS:
        bench.assignments.assign(bench.peer(name))
    bench.managers.progress.give(ID, "d", 0, SUPERNODE)
    bench.dispatcher.succeeded(bench.dispatcher.sessions["d"], task, 1, serves=True)
    for most, expected in ((10, ["d", "a", "b", "c"]), (2, ["d", "a"])):
        (shown,) = (await overview(bench, most).progress()).tasks
        assert expected == [each.node for each in shown.nodes]
