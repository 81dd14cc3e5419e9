"""An order is carried out once, and its result stays until another order replaces it."""

from pathlib import Path

from msgspec import structs

from pantala_peer.images.ledger import Ledger, LedgerFile, OrderChanges
from pantala_protocol import task_id
from pantala_protocol.images import Depth, ImageBlob, NodeOrder, NodeOrders, PullOrder, PullPhase, PullState

DIGEST = "sha256:" + "a" * 64
WEB = NodeOrder("ns/web", f"r/web:1@{DIGEST}", PullOrder("run"))
DB = NodeOrder("ns/db", f"r/db@{DIGEST}", PullOrder("run"))


def orders(*pulls: NodeOrder) -> NodeOrders:
    return NodeOrders(1, pulls)


def with_web(phase: PullPhase) -> Ledger:
    ledger = Ledger()
    ledger.apply(orders(WEB), 10)
    {
        PullPhase.PULLING: lambda: None,
        PullPhase.READY: lambda: ledger.ready(WEB.key, 20),
        PullPhase.FAILED: lambda: ledger.failed(WEB.key, "NotFound", "no", 20),
        PullPhase.GONE: lambda: ledger.gone(WEB.key, 20),
    }[phase]()
    return ledger


def test_new_orders_start_and_missing_ones_end() -> None:
    ledger = Ledger()
    assert OrderChanges(["ns/web", "ns/db"], []) == ledger.apply(orders(WEB, DB), 10)
    assert OrderChanges([], ["ns/db"]) == ledger.apply(orders(WEB), 11)
    assert {"ns/web": PullState(PullPhase.PULLING, 10, "run", 1)} == ledger.states()


def test_an_order_is_carried_out_once_whatever_its_result() -> None:
    for phase in PullPhase:
        ledger = with_web(phase)
        state = ledger.states()["ns/web"]
        assert OrderChanges([], []) == ledger.apply(orders(WEB), 30)
        assert phase is state.phase
        assert state == ledger.states()["ns/web"]


def test_another_timeout_or_pin_is_not_a_new_order() -> None:
    ledger = with_web(PullPhase.READY)
    changed = structs.replace(WEB, pin=True, order=structs.replace(WEB.order, timeout=1))
    assert OrderChanges([], []) == ledger.apply(orders(changed), 30)
    assert ledger.entries["ns/web"].order.pin


def test_another_number_run_image_or_depth_is_a_new_order() -> None:
    for changed in (
        structs.replace(WEB, order=PullOrder("run", 2)),
        structs.replace(WEB, order=PullOrder("other")),
        structs.replace(WEB, image=f"r/web:1@sha256:{'b' * 64}"),
        structs.replace(WEB, depth=Depth.PEER),
    ):
        ledger = with_web(PullPhase.FAILED)
        assert OrderChanges(["ns/web"], []) == ledger.apply(orders(changed), 30)
        state = ledger.states()["ns/web"]
        expected = (PullPhase.PULLING, 30, changed.order.run, changed.order.number, "")
        assert expected == (state.phase, state.since, state.run, state.number, state.reason)


def test_times_of_removal_are_kept_for_the_same_image_only() -> None:
    ledger = with_web(PullPhase.GONE)
    ledger.apply(orders(structs.replace(WEB, order=PullOrder("run", 2))), 30)
    ledger.ready("ns/web", 31)
    ledger.gone("ns/web", 40)
    assert (20, 40) == ledger.states()["ns/web"].gone
    ledger.apply(orders(structs.replace(WEB, image=f"r/web@sha256:{'b' * 64}")), 50)
    assert () == ledger.states()["ns/web"].gone


def test_a_phase_keeps_the_time_of_its_start() -> None:
    ledger = with_web(PullPhase.PULLING)
    assert ledger.fetched("ns/web", 7)
    assert not ledger.fetched("ns/web", 7)
    assert 10 == ledger.states()["ns/web"].since
    ledger.failed("ns/web", "NotFound", "no", 20)
    assert (PullPhase.FAILED, 20, 7, "NotFound", "no") == (
        (state := ledger.states()["ns/web"]).phase,
        state.since,
        state.fetched,
        state.reason,
        state.message,
    )


def test_blobs_of_images_of_depth_peer_are_kept() -> None:
    blob = ImageBlob(DIGEST, 7)
    ledger = Ledger()
    ledger.apply(orders(structs.replace(WEB, blobs=(blob,)), structs.replace(DB, depth=Depth.PEER, blobs=(blob,))), 1)
    assert {task_id.of_blob(DIGEST)} == ledger.kept_tasks()
    ledger.apply(orders(WEB), 2)
    assert set() == ledger.kept_tasks()


def test_a_new_process_continues_with_the_ledger_of_the_last_one(tmp_path: Path) -> None:
    file = LedgerFile(tmp_path / "images.json")
    assert {} == file.read().entries
    ledger = with_web(PullPhase.READY)
    ledger.apply(orders(WEB, DB), 30)
    ledger.pins.add("r/web")
    file.write(ledger.render())
    again = file.read()
    assert (ledger.entries, ledger.pins) == (again.entries, again.pins)
    assert ["ns/db"] == again.unfinished()
    (tmp_path / "images.json").write_bytes(b'{"entries"')
    assert {} == file.read().entries
