"""The bodies and queries of Dragonfly's REST API, with its keys. Keys that come in are matched in any case."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from pantala_protocol.statement import CDNStatus
from pantala_supernode.dragonfly.preheat import PreheatStatus
from pantala_supernode.dragonfly.visitors import PieceResult, PieceStatus
from pantala_supernode.errors import InvalidValueError
from pantala_supernode.http.messages import match_keys
from pantala_supernode.swarm.peer import Direction

T = TypeVar("T", bound=msgspec.Struct)

Port = Annotated[int, Meta(ge=0, le=65535)]
Address = Annotated[str, Meta(extra_json_schema={"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]})]
HostName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$")]
Short = Annotated[str, Meta(max_length=256)]
Text = Annotated[str, Meta(max_length=8192)]


class ErrorResponse(msgspec.Struct, frozen=True):
    """What went wrong; ``code`` is Dragonfly's code where there is one, else the status."""

    code: int
    message: str


class PeerCreateRequest(msgspec.Struct, frozen=True):
    """A peer introduces itself."""

    ip: Address = msgspec.field(name="IP")
    host_name: HostName = msgspec.field(name="hostName")
    port: Port = 0
    """Where it serves pieces; 0: it does not."""
    version: Short = ""

    def __post_init__(self) -> None:
        if not self.host_name.isprintable():  # a pattern's end lets a line's end pass
            raise ValueError("hostName must be one line")


class PeerCreateResponse(msgspec.Struct, frozen=True):
    """The new peer's ID."""

    id: str = msgspec.field(name="ID")


class PeerInfo(msgspec.Struct, frozen=True):
    """One peer: a node's, one that registered here, or one run of dfget."""

    id: str = msgspec.field(name="ID")
    ip: str = msgspec.field(name="IP")
    host_name: str = msgspec.field(name="hostName")
    port: int
    version: str


class PeerQuery(msgspec.Struct, frozen=True):
    """Which page of the peers."""

    page_size: Annotated[int, Meta(ge=0, le=1_000_000)] = msgspec.field(name="pageSize")
    """0: all are on one page."""
    page_number: Annotated[int, Meta(ge=0, le=1_000_000)] = msgspec.field(name="pageNum", default=0)
    sort_keys: list[str] = msgspec.field(name="sortKey", default_factory=list)
    """``ID``, ``IP``, ``hostName``, ``port``, ``version``; none: in the order in which they came."""
    direction: Direction = msgspec.field(name="sortDirect", default=Direction.ASC)


class TaskCreateRequest(msgspec.Struct, frozen=True):
    """A client wants a file."""

    client: Short = msgspec.field(name="cID")
    url: Text = msgspec.field(name="rawURL")
    md5: Annotated[str, Meta(pattern="^([0-9a-fA-F]{32})?$")] = ""
    identifier: Text = ""
    path: Short = ""
    """Where the client serves the file."""
    headers: dict[str, str] = {}
    dfdaemon: bool = False
    call_system: Short = msgspec.field(name="callSystem", default="")
    filter: list[str] = []
    """Query parameters that do not matter."""
    peer: Text = msgspec.field(name="peerID", default="")
    """Which peer it is of; without one nobody is sent to it for pieces."""


class TaskCreateResponse(msgspec.Struct, frozen=True):
    """The task that the file is."""

    id: str = msgspec.field(name="ID")
    length: int = msgspec.field(name="fileLength")
    """Bytes; -1: not known yet."""
    piece_size: int = msgspec.field(name="pieceSize")
    """Bytes of a wrapped piece."""


class TaskInfo(msgspec.Struct, frozen=True):
    """One task."""

    id: str = msgspec.field(name="ID")
    length: int = msgspec.field(name="fileLength")
    """Bytes; -1: not known yet."""
    piece_size: int = msgspec.field(name="pieceSize")
    """Bytes of a wrapped piece; 0: not known yet."""
    piece_total: int = msgspec.field(name="pieceTotal")
    """0: not known yet, or an empty file."""
    cdn_status: CDNStatus = msgspec.field(name="cdnStatus")
    raw_url: str = msgspec.field(name="rawURL")
    """Without what may be a secret."""


class TaskQuery(msgspec.Struct, frozen=True):
    """How much of a task is deleted."""

    full: bool = False
    """Delete the copy on the volume, too."""


class TaskUpdateRequest(msgspec.Struct, frozen=True):
    """A peer has all of a task."""

    peer: Text = msgspec.field(name="peerID")


class PieceQuery(msgspec.Struct, frozen=True):
    """Who asks for pieces."""

    client: Short = msgspec.field(name="clientID")
    number: Annotated[int, Meta(ge=1, le=1_000_000)] = msgspec.field(name="num", default=4)


class PieceInfo(msgspec.Struct, frozen=True):
    """One piece, and where to get it."""

    client: str = msgspec.field(name="cID")
    """Of whom it is got."""
    range: str = msgspec.field(name="pieceRange")
    size: int = msgspec.field(name="pieceSize")
    md5: str = msgspec.field(name="pieceMD5")
    host: str = msgspec.field(name="peerIP")
    port: int = msgspec.field(name="peerPort")
    path: str


class PieceUpdateRequest(msgspec.Struct, frozen=True):
    """What became of a piece."""

    source: Short = msgspec.field(name="srcCid")
    """Who downloads."""
    status: PieceStatus
    result: PieceResult = PieceResult.INVALID
    provider: Text = msgspec.field(name="dstCid", default="")
    """Who served."""


class PreheatCreateRequest(msgspec.Struct, frozen=True):
    """A file to fetch ahead."""

    type: Short
    """``file``. Images are not preheated: preheat their layers' URLs."""
    url: Text
    filter: Text = ""
    """Query parameters that do not matter, joined by ``&``."""
    identifier: Text = ""
    headers: dict[str, str] = {}


class PreheatCreateResponse(msgspec.Struct, frozen=True):
    """The preheat's ID."""

    id: str = msgspec.field(name="ID")


class PreheatInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """One preheat."""

    id: str = msgspec.field(name="ID")
    status: PreheatStatus
    started_at: datetime = msgspec.field(name="startTime")
    finished_at: datetime | None = msgspec.field(name="finishTime", default=None)
    message: str = msgspec.field(name="errorMsg", default="")


class Version(msgspec.Struct, frozen=True):
    """Which supernode this is."""

    version: str = msgspec.field(name="Version")


def read(body: bytes, kind: type[T]) -> T:
    """Read a JSON object as ``kind``. Raises :class:`InvalidValueError`."""
    try:
        fields = msgspec.json.decode(body, type=dict[str, Any])
        return msgspec.convert(match_keys(fields.items(), kind), kind, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidValueError(f"the body is no {kind.__name__}: {error}") from error
