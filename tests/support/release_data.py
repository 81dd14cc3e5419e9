"""Records what this version writes: volumes, folders of nodes, messages. The next version must read it.

``python -m tests.support.release_data FOLDER`` writes the records into FOLDER. docs/upgrades.md says when to do so.
"""

import asyncio
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import msgspec
import yaml

from pantala_peer.cache.records import PublicationRecord
from pantala_pieces.file import Meta
from pantala_protocol import __version__, task_id
from pantala_protocol.images import PullPhase, PullState
from pantala_protocol.statement import (
    CDNStatus,
    Changes,
    Failure,
    Member,
    Membership,
    PeerReport,
    Statement,
    TaskReport,
    WantedTask,
)
from pantala_protocol.sync import (
    Assignment,
    Delivery,
    DeliveryState,
    DeliveryStatus,
    HeldPieces,
    PieceFailure,
    PieceWork,
    SyncAnswer,
    SyncRequest,
)
from testbed.binaries import assets
from testbed.origin import Behaviour, Bytes
from tests.support.eventually import eventually
from tests.support.supernode_lab import SupernodeLab

PORT = 29_871
"""The port of the origin, because a task's ID contains the URL."""
WHOLE = b"".join(b"%015d\n" % line for line in range(17_000))
PARTIAL = b"".join(b"%015d\n" % line for line in range(50_000, 90_000))
ARRIVED = 300_000
"""The bytes of the second file that the origin has sent."""
TASK = "1" * 64
DIGEST = "sha256:" + "a" * 64

CHART = Path(__file__).parents[2] / "charts/pantala"
FIXED = {
    "Deployment": ("selector",),
    "DaemonSet": ("selector",),
    "StatefulSet": ("selector", "serviceName", "volumeClaimTemplates", "podManagementPolicy"),
}
"""What the API server lets no upgrade change."""

MESSAGES: dict[str, msgspec.Struct] = {
    "statement": Statement(
        7,
        (
            WantedTask("u", "ns/t", TASK, "http://origin/f", {"A": "b"}, DIGEST, "ns/f", ("n1", "n2"), 3, attempt="1/"),
            WantedTask("v", "ns/u", "2" * 64, "http://origin/g", suspended=True),
        ),
        Membership(3, (Member("s-0", "http://s-0:8002"), Member("s-1", "http://s-1:8002", leaving=True))),
        "s-0",
    ),
    "changes": Changes(
        "boot",
        5,
        7,
        full=True,
        tasks=(
            TaskReport(
                "u", TASK, "1/", CDNStatus.RUNNING, 9, DIGEST, 131072, 1, 0, 5, 6, 7,
                Failure("NotFound", "no such file", peer="n2"), ("n1",), ("n2",),
                failures=(Failure("Local", "x", peer="n2"),), failed_peers=1,
            ),
        ),
        gone=("w",),
        peers=(
            PeerReport(
                "n1", connected=True, address="10.0.0.1", port=65002, zone="z",
                pulls={"k": PullState(PullPhase.READY, 7, "run", 2)},
            ),
        ),
    ),
    "request": SyncRequest(
        "n1", "boot", 4, port=65002, zone="z", inventory={TASK: HeldPieces("0" * 16, "0-3")},
        done={TASK: HeldPieces("0" * 16, "4")}, failures=(PieceFailure(TASK, 5, "n2", "corrupt"),),
        deliveries={"u": DeliveryState(DeliveryStatus.PUBLISHED)},
    ),
    "answer": SyncAnswer(
        "boot", 4, key="00" * 32, revision=2,
        assignments=(Assignment(TASK, "0" * 16, 131072, 9, DIGEST, (Delivery("u", "ns/f"),)),),
        work=(PieceWork(TASK, "0" * 16, 0, 0, 9, "a" * 64, "10.0.0.1", 65002, "ticket", "n2"),),
    ),
}  # fmt: skip


async def record(folder: Path) -> None:
    """Let a supernode and a peer work, and keep their files."""
    with tempfile.TemporaryDirectory() as scratch:
        lab = SupernodeLab(Path(scratch))
        lab.origin.port = PORT
        async with lab:
            lab.origin.serve("/whole", Bytes(WHOLE))
            lab.origin.serve("/partial", Bytes(PARTIAL), always=Behaviour(stall_after=ARRIVED, chunk=20_000))
            await lab.peer("node-1")
            await lab.state(*tasks(lab))
            published = Path(scratch) / "node-1/files/ns/whole"
            await eventually(lambda: published.exists())
            await lab.until(lambda found: any(each.pieces_cached == 2 for each in found.tasks))
            await asyncio.sleep(1.0)
        with tarfile.open(folder / "disks.tar.xz", "w:xz") as archive:
            for name in ("supernode", "node-1"):
                archive.add(Path(scratch) / name, name)


def tasks(lab: SupernodeLab) -> list[WantedTask]:
    """The tasks of the record."""
    found = []
    for name in ("whole", "partial"):
        url = lab.origin.url(f"/{name}")
        found.append(
            WantedTask(f"u-{name}", f"ns/{name}", task_id.compute(url), url, path=f"ns/{name}", peers=("node-1",))
        )
    return found


def fixed_fields() -> dict[str, dict[str, object]]:
    """The fields of the chart's workloads that an upgrade cannot change, by kind and name."""
    command = (str(assets(["helm"])["helm"]), "template", "pantala", str(CHART), "--namespace", "pantala")
    rendered = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = {}
    for each in filter(None, yaml.safe_load_all(rendered)):
        fixed = {name: each["spec"][name] for name in FIXED.get(each["kind"], ()) if name in each["spec"]}
        if fixed:
            found[f"{each['kind']} {each['metadata']['name']}"] = fixed
    return found


def main(folder: Path) -> None:
    """Write all records."""
    folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(record(folder))
    messages = {name: json.loads(msgspec.json.encode(message)) for name, message in MESSAGES.items()}
    types = {name: type(message) for name, message in MESSAGES.items()} | {
        "meta": Meta,
        "publication": PublicationRecord,
    }
    schemas = {name: msgspec.json.schema(kind) for name, kind in types.items()}
    document = {"version": __version__, "messages": messages, "schemas": schemas}
    (folder / "messages.json").write_text(json.dumps(document, indent=1) + "\n")
    (folder / "chart.json").write_text(json.dumps(fixed_fields(), indent=1, sort_keys=True) + "\n")
    shutil.copyfile(CHART / "values.yaml", folder / "values.yaml")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
