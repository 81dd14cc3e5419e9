"""Parsers of records on the disk."""

import msgspec

from pantala_peer.cache.records import PublicationRecord
from pantala_peer.containerd.plan import FolderRecord, FormerState, HostsFile
from pantala_peer.containerd.watch import RepairNote
from pantala_peer.images.ledger import LedgerContent, LedgerEntry
from pantala_pieces import journal, parts, records
from pantala_pieces.journal import JournalRecord
from pantala_pieces.meta import Meta
from pantala_pieces.parts import Part
from pantala_pieces.records import RecordError
from pantala_protocol.images import NodeOrder, PullOrder, PullPhase, PullState
from pantala_supernode.images import ledger
from pantala_supernode.volume.identity import Volume
from tests.fuzz.parser import FuzzParser

TASK = "1" * 64
META = Meta(TASK, "g", 1 << 20, 5 << 20, '"e"', "", "sha256:" + "a" * 64, claims=("u",))
ENTRY = LedgerEntry(NodeOrder("ns/a", "r/a@sha256:" + "a" * 64, PullOrder("run")), PullState(PullPhase.READY, 7))

RECORDS: dict[type, msgspec.Struct] = {
    Meta: META,
    PublicationRecord: PublicationRecord("a/b", TASK, (1, 2), ("a",)),
    LedgerContent: LedgerContent((ENTRY,), ("r/a",)),
    Volume: Volume(1, "id", "tasks"),
    FolderRecord: FolderRecord({"_default": FormerState(True, HostsFile(b"x", 0o600, 0, 0))}, ("/a",), {"l": "t"}),
    RepairNote: RepairNote(5, ("docker.io",), "fault"),
}


def _record(kind: type, example: object) -> FuzzParser:
    body = msgspec.json.encode(example)
    return FuzzParser(
        f"record {getattr(kind, '__name__', 'blobs')}",
        lambda data: records.decode(data, kind),
        (records.seal(body), body, b"{}", records.seal(b"{}")),
        records.decode,
        (RecordError,),
    )


_JOURNAL = b"".join(journal.encode(JournalRecord(number, 1 << 20, bytes(32))) for number in range(4))
_PARTS = b"".join(parts.encode(number, Part(5, 7)) for number in range(4))

PARSERS = (
    *(_record(kind, example) for kind, example in RECORDS.items()),
    _record(ledger._Entries, {"sha256:" + "a" * 64: {"generation": "g", "wanted": 5.0}}),
    FuzzParser("journal", lambda data: list(journal.decode(data)), (_JOURNAL, _JOURNAL[:50], b""), journal.decode),
    FuzzParser("parts", lambda data: dict(parts.decode(data)), (_PARTS, _PARTS[:20], b""), parts.decode),
)
