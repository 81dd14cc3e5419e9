"""Parsers of the REST interfaces: Dragonfly's and Pantala's own."""

from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import parse_qsl

import msgspec
from multidict import MultiDict

from pantala_supernode.dragonfly import models, url, wire
from pantala_supernode.dragonfly.wire import MalformedRequestError
from pantala_supernode.errors import InvalidValueError
from pantala_supernode.http.api import ChangesQuery
from pantala_supernode.http.copies import ContentQuery
from pantala_supernode.http.operations import read_query
from tests.fuzz.parser import FuzzParser, text

REGISTRATION = msgspec.json.encode(
    {
        "rawUrl": "http://o/f?v=1&sig=2",
        "taskUrl": "http://o/f?v=1",
        "cid": "1.2.3.4-7~1",
        "ip": "1.2.3.4",
        "port": "15001",
        "path": "/peer/file/a",
        "md5": "0" * 32,
        "headers": ["Authorization: x", "Range: bytes=0-5"],
        "callSystem": None,
        "dfdaemon": True,
    }
)
PULL = (b"srcCid=c&taskId=t&status=701&result=501&range=0-131076&dstCid=d", b"status=700&result=500", b"status=702")
PAGE = b"clientID=c&pageNum=1&pageSize=50&sortDirection=ASC&sortKey=a,b&num=4&cid=c&srcCid=c&range=0-5"
BODIES: dict[type[msgspec.Struct], bytes] = {
    models.PeerCreateRequest: b'{"IP":"1.2.3.4","hostName":"h","port":5,"version":"1"}',
    models.TaskCreateRequest: b'{"cID":"c","rawURL":"http://o/f?a=b","filter":["a"],"headers":{"A":"b"},"path":"/x"}',
    models.TaskUpdateRequest: b'{"peerID":"p","md5":"0"}',
    models.PieceUpdateRequest: b'{"srcCid":"c","status":"RUNNING","result":"SUCCESS","dstCid":"d"}',
    models.PreheatCreateRequest: b'{"type":"file","url":"http://o/f?a=b","filter":"a","headers":{"A":"b"}}',
}


def _body(kind: type[msgspec.Struct]) -> FuzzParser:
    def parse(data: bytes) -> None:
        found: Any = models.read(data, kind)
        if hasattr(found, "registration"):
            _ = found.registration().task_id

    errors = (InvalidValueError, MalformedRequestError) if hasattr(kind, "registration") else (InvalidValueError,)
    documented = models.PreheatCreateRequest.registration if hasattr(kind, "registration") else models.read
    return FuzzParser(kind.__name__, parse, (BODIES[kind], b"{}"), documented, errors)


def _query(kind: type[msgspec.Struct], *corpus: bytes) -> FuzzParser:
    def parse(data: bytes) -> object:
        pairs = parse_qsl(text(data), keep_blank_values=True, max_num_fields=None)
        return read_query(cast("Any", SimpleNamespace(query=MultiDict(pairs))), kind)

    return FuzzParser(kind.__name__, parse, corpus, read_query, (InvalidValueError,))


def _registration(data: bytes) -> object:
    return wire.read_registration(data).task_id


def _pull(data: bytes) -> object:
    return wire.read_pull(dict(parse_qsl(text(data))))


PARSERS = (
    FuzzParser("registration", _registration, (REGISTRATION,), wire.read_registration, (MalformedRequestError,)),
    FuzzParser("pull", _pull, PULL, wire.read_pull, (MalformedRequestError,)),
    FuzzParser(
        "URL of a client",
        lambda data: url.encoded(text(data)),
        (b"http://o/f", "http://ö/ü ?x".encode()),
        url.encoded,
        (ValueError,),
    ),
    *(_body(kind) for kind in BODIES),
    _query(ChangesQuery, b"boot=b&since=5&wait=1.5"),
    _query(ContentQuery, b"generation=g&start=5&end=9"),
    *(_query(kind, PAGE) for kind in (models.PeerQuery, models.TaskQuery, models.PieceQuery)),
)
