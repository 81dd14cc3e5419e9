"""Disks that fill up, and get room again."""

import asyncio
import os
import time
from pathlib import Path

from faults.row import Case, Plan, Row, Tally
from pantala_protocol import task_id
from pantala_protocol.reasons import Reason
from pantala_protocol.statement import CDNStatus, TaskReport, WantedTask
from testbed.origin import Behaviour, Generated
from tests.support.eventually import eventually
from tests.support.peer_lab import PeerLab
from tests.support.scripted_files import File, content
from tests.support.scripted_supernode import PUBLISHED, ScriptedSupernode
from tests.support.small_disk import mounted, resize
from tests.support.supernode_lab import SupernodeLab

MIB = 1024 * 1024
ROOM = 30.0
"""Seconds from the moment when there is room until the work continues."""
PIECE = 128 * 1024


async def of_a_supernode(plan: Plan, tally: Tally) -> None:
    """Give a supernode more files than its volume holds, and fill the volume with other files meanwhile."""
    for case in plan.cases():
        with mounted(plan.folder / str(case.number), case.chance.randrange(6, 12) * MIB) as disk:
            async with SupernodeLab(disk, grace=0.2) as lab:
                await _fill_a_supernode(lab, disk, case, tally)
        tally.add(full_disks=1)


async def _fill_a_supernode(lab: SupernodeLab, disk: Path, case: Case, tally: Tally) -> None:
    bodies = {f"/{n}": Generated(case.chance.randrange(1, 5 * MIB), seed=n) for n in range(4)}
    tasks = []
    for path, body in bodies.items():
        how = Behaviour(rate=8 * MIB, framing=case.chance.choice(["length", "length", "chunked"]))
        lab.origin.serve(path, body, always=how)
        url = lab.origin.url(path)
        tasks.append(WantedTask(f"u{path}", f"ns{path}", task_id.compute(url), url))
    await lab.state(*tasks)
    await asyncio.sleep(case.chance.uniform(0, 1))
    filler = disk / "of another program"
    _write_until_full(filler)
    changes = await lab.until(lambda found: len(found.tasks) == len(tasks) and all(map(_ended, found.tasks)))
    for report in changes.tasks:
        failed = report.failure is not None
        tally.add(failed_at_first=int(failed), files=1)
        right = not failed or report.failure.reason == Reason.VOLUME_FULL  # type: ignore[union-attr]
        tally.check(right, f"a full disk is reported as {report.failure}", case)
    filler.unlink()
    resize(disk, 64 * MIB)
    begun = time.monotonic()
    await lab.until(lambda found: _all_succeeded(found.tasks, len(tasks)))
    tally.measure("seconds_until_it_goes_on", time.monotonic() - begun)
    tally.check(time.monotonic() - begun < ROOM, "it did not go on within 30 s", case)
    for task, body in zip(tasks, bodies.values(), strict=True):
        file = lab.app.store.get(task.task_id)
        tally.check(file is not None and file.path.read_bytes() == body.read(0, body.size), "wrong bytes", case)


def _ended(report: TaskReport) -> bool:
    return report.cdn_status is CDNStatus.SUCCESS or report.failure is not None


def _all_succeeded(reports: tuple[TaskReport, ...], count: int) -> bool:
    return len(reports) == count and all(report.cdn_status is CDNStatus.SUCCESS for report in reports)


def _write_until_full(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(64 * 1024)):
                pass
        except OSError:
            return


async def of_a_peer(plan: Plan, tally: Tally) -> None:
    """Give a peer a file that does not fit, because another program fills the disk before or while it arrives."""
    for case in plan.cases():
        with mounted(plan.folder / str(case.number), 12 * MIB) as disk:
            await _fill_a_peer(disk, case, tally)
        tally.add(full_disks=1)


async def _fill_a_peer(disk: Path, case: Case, tally: Tally) -> None:
    supernode, file = ScriptedSupernode(), File("a", content(60))
    supernode.pause_after_failure = 0.2
    async with supernode.serving():
        lab, filler = PeerLab(disk, supernode), disk / "of another program"
        async with lab.peer(recheck_interval=0.5):
            if early := case.chance.random() < 0.7:
                _write_until_full(filler)
            await eventually(lambda: "node-1" in supernode.peers)
            await supernode.deliver(file)
            if early:
                state = await supernode.until_delivered(timeout=20)
                tally.check(state.reason == Reason.NODE_DISK_FULL, f"a full disk is reported as {state}", case)
                tally.add(failed_at_first=1)
            else:
                await asyncio.sleep(case.chance.uniform(0, 0.3))
                _write_until_full(filler)
                await asyncio.sleep(0.5)
            filler.unlink()
            os.sync()
            begun = time.monotonic()
            supernode.revision += 1
            await supernode.notify()
            await eventually(lambda: supernode.delivered() == PUBLISHED, within=60)
            tally.measure("seconds_until_it_goes_on", time.monotonic() - begun)
            tally.check(time.monotonic() - begun < ROOM, "it did not go on within 30 s", case)
            tally.check(file.content == lab.published().read_bytes(), "wrong bytes", case)


def _no_mounts() -> str | None:
    return None if os.geteuid() == 0 else "only root can mount a small disk"


PROMISE = (
    "No process ends and no byte is wrong. The report names the full disk. "
    "The work continues within 30 s of free space."
)
ROWS = (
    Row("full-volumes", "a supernode's volume is too small, and other programs fill it", PROMISE, ("F3",), 20, 1,
        "full_disks", of_a_supernode, _no_mounts),
    Row("full-nodes", "a node's disk fills before or while a file arrives", PROMISE, ("F3",), 30, 1, "full_disks",
        of_a_peer, _no_mounts),
)  # fmt: skip
