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
from pantala_pieces.meta import Meta
from pantala_protocol import __version__, task_id
from pantala_protocol.statement import WantedTask
from testbed.binaries import assets
from testbed.origin import Behaviour, Bytes
from tests.support.eventually import eventually
from tests.support.messages import MESSAGES
from tests.support.supernode_lab import SupernodeLab

PORT = 29_871
"""The port of the origin, because a task's ID contains the URL."""
WHOLE = b"".join(b"%015d\n" % line for line in range(17_000))
PARTIAL = b"".join(b"%015d\n" % line for line in range(50_000, 90_000))
ARRIVED = 300_000
"""The bytes of the second file that the origin has sent."""

CHART = Path(__file__).parents[2] / "charts/pantala"
FIXED = {
    "Deployment": ("selector",),
    "DaemonSet": ("selector",),
    "StatefulSet": ("selector", "serviceName", "volumeClaimTemplates", "podManagementPolicy"),
}
"""What the API server lets no upgrade change."""


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
