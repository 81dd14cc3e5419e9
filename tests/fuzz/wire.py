"""Parsers of what peers, supernodes, the operator and containerd send."""

import msgspec

from pantala_peer.mirror import grants, request
from pantala_peer.mirror.errors import MirrorError
from pantala_peer.sync import channel
from pantala_peer.sync.channel import ChannelError
from pantala_pieces.transfer.errors import FetchError, ProviderRefusedError
from pantala_pieces.transfer.requests import PieceRequest
from pantala_pieces.transfer.upload import heads
from pantala_pieces.transfer.upload.admission import Admission
from pantala_pieces.transfer.upload.heads import PieceRefusedError
from pantala_process.http import ErrorBody, ErrorDetail, error_detail
from pantala_protocol import digest, image, ranges, task_id, ticket
from pantala_protocol.console.progress import Inflow, NodeDownload, Progress, SilentPeer, TaskProgressView
from pantala_protocol.geometry import Wrapping
from pantala_protocol.nodes.numbers import named
from pantala_protocol.redaction import RedactedURL
from pantala_protocol.registry import ManifestAnswer, Resolve, Resolved
from pantala_protocol.rules import headers, names
from pantala_protocol.rules import text as texts
from pantala_protocol.rules.fields import decode
from pantala_protocol.runtime import (
    BlobsRequest,
    ImagePullRequest,
    ProbeRequest,
    PullCredentials,
    PulledImage,
    RuntimeImage,
)
from pantala_protocol.statement import Changes, Statement, StatementReceipt
from pantala_protocol.sync import PieceWork, SyncAnswer, SyncRequest
from pantala_supernode.errors import InvalidValueError
from pantala_supernode.http import head
from pantala_supernode.http.head import UnusualHeadError
from pantala_supernode.http.operations import decode_body
from pantala_supernode.replicas.client import SourceRequest
from pantala_supernode.replicas.decision import CopyReport
from pantala_supernode.sync.session import parse_held
from tests.fuzz.parser import FuzzParser, header, text
from tests.support.messages import MESSAGES

DIGEST = "sha256:" + "a" * 64
TASK = "1" * 64
KEY = b"key"
TICKET = ticket.issue(KEY, TASK, "g", now=0)
EXAMPLES: dict[type, bytes] = {type(message): msgspec.json.encode(message) for message in MESSAGES.values()}
RUNTIME: dict[type, msgspec.Struct] = {
    ImagePullRequest: ImagePullRequest("r/a:1", 5.0, PullCredentials("u", "p", "https://r"), pin=True),
    BlobsRequest: BlobsRequest([DIGEST]),
    ProbeRequest: ProbeRequest("n", 5),
    PulledImage: PulledImage(DIGEST, 5, 0.5, pinned=True),
    RuntimeImage: RuntimeImage(("r/a:1",), ("r/a@" + DIGEST,), pinned=False),
}
"""Messages between the peer and the runtime helper."""
EXAMPLES |= {kind: msgspec.json.encode(message) for kind, message in RUNTIME.items()}
EXAMPLES[Progress] = msgspec.json.encode(
    Progress(
        "b1",
        1.7e9,
        (
            TaskProgressView(
                TASK,
                5,
                "SourceSlow",
                "slow",
                1.6e9,
                (NodeDownload("n1", 5, 1, (Inflow("", 5, 1),), "NodeDiskFull", "full", 1.6e9),),
            ),
        ),
        (SilentPeer("n2", 1.6e9),),
        10,
        5,
    )
)
WORK = PieceWork(TASK, "g", 1, 1 << 20, 5, "10.0.0.1", 8001, "7-t", digest="00" * 32)
ASKED = PieceRequest.of(WORK)
HEAD = b"GET /pieces/%b/g HTTP/1.1\r\nHost: h\r\nX-Pantala-Ticket: %b\r\nRange: bytes=0-4\r\n\r\n" % (
    TASK.encode(),
    TICKET.encode(),
)
HEADS = (
    HEAD,
    b"GET /wrapped/t/%b/g HTTP/1.0\r\nhost: h\r\nrange: bytes=0-131076\r\nconnection: keep-alive\r\n\r\n"
    % TASK.encode(),
    b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
)
ANSWER = (
    b"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nContent-Range: bytes 1048576-1048580/9000000",
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close",
)


def _received(kind: type) -> FuzzParser:
    """A message to the supernode."""
    return FuzzParser(
        kind.__name__, lambda data: decode_body(data, kind), (EXAMPLES[kind],), decode_body, (InvalidValueError,)
    )


def _held(data: bytes) -> object:
    return parse_held(decode(data, SyncRequest).inventory or {})


def _named(data: bytes) -> object:
    return named(decode(data, Statement))


def _answered(kind: type) -> FuzzParser:
    """An answer to a peer, to the operator or to a replica."""
    return FuzzParser(kind.__name__, lambda data: decode(data, kind), (EXAMPLES[kind],), decode, (ValueError,))


def _head(data: bytes) -> object:
    split = heads.split(data)
    return None if split is None else heads.route(heads.parse(split[0]))


def _admitted(data: bytes) -> object:
    split = heads.split(data)
    admission = Admission(lambda _: None, keys=lambda: [KEY], clock=lambda: 0.0)
    return None if split is None else admission.admit(heads.parse(split[0]))


def _shown(data: bytes) -> None:
    shown = RedactedURL(text(data))
    assert shown.isprintable()
    cleaned = texts.clean(data.decode("latin-1"), 64)
    assert len(cleaned.encode()) <= 64
    assert cleaned.isprintable()


def _ticket(data: bytes) -> None:
    if ticket.check(KEY, TASK, "g", header(data), now=0.0):
        ticket.reader(header(data))
        ticket.expiry(header(data))


def _path(data: bytes) -> None:
    request.probed_node(text(data))
    request.parse_path(text(data), "docker.io")


_URLS = (b"https://u:p@h:8/a?b#c", b"http://[::1]/x", b"%2fv2")
_NUMBERS = (b"0-3,7", b"0", b"", b"1-4194303")
_BASIC = (b"Basic cGFudGFsYTp4", b"Bearer abc", b"")

PARSERS = (
    _received(SyncRequest),
    _received(Statement),
    _received(SourceRequest),
    _received(Resolve),
    FuzzParser("held pieces", _held, (EXAMPLES[SyncRequest],), parse_held, (ValueError,)),
    FuzzParser("numbers of nodes", _named, (EXAMPLES[Statement],), named, (ValueError,)),
    *(
        _answered(kind)
        for kind in (SyncAnswer, Changes, Progress, StatementReceipt, CopyReport, Resolved, ManifestAnswer)
    ),
    *(_answered(kind) for kind in RUNTIME),
    FuzzParser("error body", error_detail, (msgspec.json.encode(ErrorBody(ErrorDetail("A", "b"))),), error_detail),
    FuzzParser("ranges of pieces", lambda data: ranges.parse(text(data)), _NUMBERS, ranges.parse, (ValueError,)),
    FuzzParser("ticket", _ticket, (TICKET.encode(), b"7-" + TICKET.encode()), ticket.check),
    FuzzParser("head of a piece request", _head, HEADS, heads.parse, (PieceRefusedError,)),
    FuzzParser("admission of a piece request", _admitted, HEADS, Admission.admit, (PieceRefusedError,)),
    FuzzParser("head of a request", lambda data: head.read_head(bytearray(data)), HEADS, head.read_head,
               (UnusualHeadError,)),
    FuzzParser("query", lambda data: head.read_query(header(data)), (b"a=b&c=d", b"x=%20"), head.read_query,
               (UnusualHeadError,)),
    FuzzParser("head of a supernode's answer", channel._head, ANSWER, channel._head, (ChannelError,)),
    FuzzParser("head of a provider's answer", ASKED.check_head, ANSWER, PieceRequest.check_head, (FetchError,)),
    FuzzParser(
        "work for a piece",
        lambda data: PieceRequest.of(
            msgspec.structs.replace(WORK, host=text(data), ticket=text(data), path=text(data[:9]))
        ),
        (b"10.0.0.1", b"::1", b"/x"),
        PieceRequest.of,
        (ProviderRefusedError,),
    ),
    FuzzParser("Range of a blob", lambda data: request.parse_range(header(data), 1000),
               (b"bytes=0-5", b"bytes=-5", b"bytes=5-"), request.parse_range, (request.UnsatisfiableError,)),
    FuzzParser("path of the mirror", _path, (b"/v2/library/nginx/manifests/1", b"/v2/"), request.parse_path,
               (MirrorError,)),
    FuzzParser("password of a pull", lambda data: grants.is_ours(header(data)), _BASIC, grants.is_ours),
    FuzzParser("image", lambda data: image.parse(text(data)), (b"nginx:1", b"r:5/a/b@" + DIGEST.encode()), image.parse,
               (ValueError,)),
    FuzzParser("registry", lambda data: image.check_registry(text(data)), (b"ghcr.io:443", b"[::1]:5"),
               image.check_registry, (ValueError,)),
    FuzzParser("digest", lambda data: digest.parse(text(data)), (DIGEST.encode(),), digest.parse, (ValueError,)),
    FuzzParser("checksum", lambda data: digest.parse_checksum(text(data)), (b"md5:" + b"0" * 32,),
               digest.parse_checksum, (ValueError,)),
    FuzzParser("task ID", lambda data: task_id.parse(text(data)), (TASK.encode(),), task_id.parse, (ValueError,)),
    FuzzParser("wrapped range", lambda data: Wrapping(1 << 17).piece(text(data)), (b"0-131076", b"1-2"), Wrapping.piece,
               (ValueError,)),
    FuzzParser("path of a file", lambda data: names.fault(text(data)), (b"a/b.bin", "ü/x".encode()), names.fault),
    FuzzParser("header value", lambda data: headers.to_bytes(header(data)), (b"Bearer x",), headers.to_bytes,
               (ValueError,)),
    FuzzParser("shown URL", _shown, _URLS, RedactedURL),
)  # fmt: skip
