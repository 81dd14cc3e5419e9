"""Upgrade and rollback between the last two versions: disks, messages and values of the former version.

The folder tests/data/former has what the former version wrote. tests/support/release_data.py recorded it.
"""

import json
import struct
import tarfile
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from pantala_peer.cache.records import PublicationRecord
from pantala_pieces import records
from testbed.origin import Behaviour, Bytes
from tests.support.eventually import eventually
from tests.support.messages import MESSAGES
from tests.support.release_data import PARTIAL, PORT, WHOLE, tasks
from tests.support.supernode_lab import SupernodeLab

FORMER = Path(__file__).parents[1] / "data/former"
DOCUMENT = json.loads((FORMER / "messages.json").read_text())
PIECE = 128 * 1024
KEPT = 2
"""The whole pieces of the second file that the former version had."""


def unpack(folder: Path) -> None:
    """Put the former version's disks below ``folder``. Files get new inodes, so the record of them is adapted."""
    with tarfile.open(FORMER / "disks.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    (record,) = (folder / "node-1/published").glob("*.json")
    adapt(folder, record)


def adapt(folder: Path, path: Path) -> None:
    """Let the record of a published file name its new inode. A checksum, if there is one, stays right."""
    record = records.load(path, PublicationRecord)
    inode = (folder / "node-1/files" / record.path).stat().st_ino
    body = msgspec.json.encode(msgspec.structs.replace(record, inodes=(inode,)))
    path.write_bytes(records.seal(body) if b'"checksum":' in path.read_bytes() else body)


@pytest.mark.parametrize("sealed", [False, True])
def test_f14_a_record_with_and_without_a_checksum_is_adapted(tmp_path: Path, sealed: bool) -> None:
    published, path = tmp_path / "node-1/files/ns/f", tmp_path / "record.json"
    published.parent.mkdir(parents=True)
    published.write_bytes(b"content")
    body = msgspec.json.encode(PublicationRecord("ns/f", "1" * 64, (1,), ("ns",)))
    path.write_bytes(records.seal(body) if sealed else body)
    adapt(tmp_path, path)
    assert (published.stat().st_ino,) == records.load(path, PublicationRecord).inodes
    assert sealed == (b'"checksum":' in path.read_bytes())


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[SupernodeLab]:
    """This version on the former version's disks. The origin serves only the file that is not complete."""
    unpack(tmp_path)
    lab = SupernodeLab(tmp_path)
    lab.origin.port = PORT
    lab.origin.serve("/whole", Bytes(WHOLE), always=Behaviour(status=500))
    lab.origin.serve("/partial", Bytes(PARTIAL))
    async with lab:
        yield lab


async def test_f14_an_upgraded_supernode_and_peer_continue_with_the_disks_of_the_former_version(
    lab: SupernodeLab, tmp_path: Path
) -> None:
    published = tmp_path / "node-1/files/ns/whole"
    inode = published.stat().st_ino
    peer = await lab.peer("node-1")
    wanted = tasks(lab)
    await lab.state(*wanted)
    await lab.cached()
    partial = tmp_path / "node-1/files/ns/partial"
    await eventually(lambda: partial.exists())
    assert [] == lab.origin.requests("/whole")
    assert inode == published.stat().st_ino
    assert (WHOLE, PARTIAL) == (published.read_bytes(), partial.read_bytes())
    assert len(PARTIAL) - KEPT * PIECE == lab.origin.body_bytes("/partial")
    (report,) = [each for each in (await lab.changes()).tasks if each.task_id == wanted[0].task_id]
    assert 0 == report.supernode_bytes, "the peer has the file already"
    assert peer.cache.is_whole(wanted[0].task_id)


def former_journal(data: bytes) -> Iterator[tuple[int, int]]:
    """The pieces and sizes that the former version reads from a journal."""
    for start in range(0, len(data) - 43, 44):
        body = data[start : start + 40]
        if zlib.crc32(body) != int.from_bytes(data[start + 40 : start + 44]):
            return
        number, size, _ = struct.unpack(">II32s", body)
        yield number, size


async def test_f14_after_a_rollback_the_former_version_reads_the_disks(tmp_path: Path) -> None:
    """The former version ignores the members of a record that it does not know."""
    async with SupernodeLab(tmp_path) as lab:
        lab.origin.serve("/whole", Bytes(WHOLE))
        lab.origin.serve("/partial", Bytes(PARTIAL))
        await lab.peer("node-1")
        await lab.state(*tasks(lab))
        await lab.cached()
        for name in ("whole", "partial"):
            published = tmp_path / "node-1/files/ns" / name
            await eventually(published.exists)
    folders = [*tmp_path.glob("supernode/tasks/*/*"), *tmp_path.glob("node-1/cache/*/*")]
    assert 4 == len(folders)
    for folder in folders:
        meta = json.loads((folder / "meta.json").read_bytes())
        check(meta, "meta")
        pieces = dict(former_journal((folder / "journal").read_bytes()))
        assert meta["length"] == sum(pieces.values())
        assert meta["length"] in (len(WHOLE), len(PARTIAL))
    found = [json.loads(path.read_bytes()) for path in tmp_path.glob("node-1/published/*.json")]
    assert {"ns/whole", "ns/partial"} == {record["path"] for record in found}
    for record in found:
        check(record, "publication")
    assert 1 == json.loads((tmp_path / "supernode/volume.json").read_bytes())["format"]


def check(value: Any, kind: str) -> None:
    """Compare a value with the types of the former version."""
    jsonschema.validate(value, DOCUMENT["schemas"][kind])


def contains(value: Any, part: Any) -> bool:
    """True if all that ``part`` says is in ``value``."""
    if isinstance(part, dict):
        return all(name in value and contains(value[name], each) for name, each in part.items())
    if isinstance(part, list):
        return len(value) == len(part) and all(map(contains, value, part))
    return bool(value == part)


@pytest.mark.parametrize("name", DOCUMENT["messages"])
def test_f14_this_version_understands_the_messages_of_the_former_one(name: str) -> None:
    written = DOCUMENT["messages"][name]
    message = msgspec.json.decode(json.dumps(written), type=type(MESSAGES[name]))
    assert contains(msgspec.to_builtins(message), written)


@pytest.mark.parametrize("name", DOCUMENT["messages"])
def test_f14_the_former_version_understands_the_messages_of_this_one(name: str) -> None:
    check(json.loads(msgspec.json.encode(MESSAGES[name])), name)
