"""The bodies and queries of Dragonfly's REST API. In requests, keys may have any mix of upper and lower case."""

import ipaddress
from typing import Annotated, Any, Self, TypeVar

import msgspec
from msgspec import Meta

from pantala_protocol import task_id
from pantala_protocol.geometry import Wrapping
from pantala_protocol.redaction import RedactedURL
from pantala_protocol.statement import CDNStatus
from pantala_supernode.dragonfly.wire import PieceEntry, PieceResult, PieceStatus, Registration, check_registration
from pantala_supernode.errors import InvalidValueError
from pantala_supernode.http.operations import match_keys
from pantala_supernode.swarm.peer import Direction, PageFilter, SwarmPeer
from pantala_supernode.tasks.task import Task

T = TypeVar("T", bound=msgspec.Struct)

Port = Annotated[int, Meta(ge=0, le=65535)]
Address = Annotated[str, Meta(extra_json_schema={"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]})]
HostName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$")]
Short = Annotated[str, Meta(max_length=256)]
Text = Annotated[str, Meta(max_length=8192)]


class ErrorResponse(msgspec.Struct, frozen=True):
    """The body of an error. ``code`` is Dragonfly's code for the error, or the HTTP status if Dragonfly has no code."""

    code: int
    message: str


class PeerCreateRequest(msgspec.Struct, frozen=True):
    """The body of a request to register a peer."""

    ip: Address = msgspec.field(name="IP")
    host_name: HostName = msgspec.field(name="hostName")
    port: Port = 0
    """The port that serves pieces. 0: the peer does not serve."""
    version: Short = ""

    def __post_init__(self) -> None:
        if not self.host_name.isprintable():  # "$" in the pattern also matches before a newline at the end
            raise ValueError("hostName must be one line")
        if not self.address:
            raise ValueError("IP must be an IP address")

    @property
    def address(self) -> str:
        """The IP address in its normal form. Empty if it is not valid."""
        try:
            return str(ipaddress.ip_address(self.ip))
        except ValueError:
            return ""


class PeerCreateResponse(msgspec.Struct, frozen=True):
    """The answer to a registration: the ID of the new peer."""

    id: str = msgspec.field(name="ID")


class PeerInfo(msgspec.Struct, frozen=True):
    """A peer in an answer: a peer on a node, a peer that registered by REST, or one run of dfget."""

    id: str = msgspec.field(name="ID")
    ip: str = msgspec.field(name="IP")
    host_name: str = msgspec.field(name="hostName")
    port: int
    version: str

    @classmethod
    def of(cls, peer: SwarmPeer) -> Self:
        return cls(peer.name, peer.address, peer.host or peer.name, peer.port, peer.version)


class PeerQuery(msgspec.Struct, frozen=True):
    """The query of a request for one page of the list of peers."""

    page_size: Annotated[int, Meta(ge=0, le=1_000_000)] = msgspec.field(name="pageSize")
    """The number of peers on a page. 0: one page has all peers."""
    page_number: Annotated[int, Meta(ge=0, le=1_000_000)] = msgspec.field(name="pageNum", default=0)
    sort_keys: list[str] = msgspec.field(name="sortKey", default_factory=list)
    """Some of ``ID``, ``IP``, ``hostName``, ``port``, ``version``. Empty: the order of registration."""
    direction: Direction = msgspec.field(name="sortDirect", default=Direction.ASC)

    def filter(self) -> PageFilter:
        return PageFilter(self.page_number, self.page_size, tuple(self.sort_keys), self.direction)


class TaskCreateRequest(msgspec.Struct, frozen=True):
    """The body of a request to start a download."""

    client: Short = msgspec.field(name="cID")
    url: Text = msgspec.field(name="rawURL")
    md5: Annotated[str, Meta(pattern="^([0-9a-fA-F]{32})?$")] = ""
    identifier: Text = ""
    path: Short = ""
    """The path at which the client serves the file."""
    headers: dict[str, str] = {}
    dfdaemon: bool = False
    call_system: Short = msgspec.field(name="callSystem", default="")
    filter: list[str] = []
    """Names of the URL's query parameters that do not change the content."""
    peer: Text = msgspec.field(name="peerID", default="")
    """The ID of the client's registered peer. Empty: the client cannot be a provider."""

    def registration(self, peer: SwarmPeer | None = None) -> Registration:
        """The request in the form of a registration of dfget. Raises :class:`wire.MalformedRequestError`."""
        return check_registration(
            {
                "rawUrl": self.url,
                "taskUrl": task_id.without_query_parameters(self.url, self.filter),
                "cid": self.client,
                "ip": peer.address if peer is not None else "",
                "port": peer.port if peer is not None else 0,
                "path": self.path,
                "md5": self.md5,
                "identifier": self.identifier,
                "headers": [f"{name}: {text}" for name, text in self.headers.items()],
                "dfdaemon": self.dfdaemon,
            }
        )


class TaskCreateResponse(msgspec.Struct, frozen=True):
    """The answer to a request to start a download: the task of the file."""

    id: str = msgspec.field(name="ID")
    length: int = msgspec.field(name="fileLength")
    """The length of the file in bytes. -1: not known yet."""
    piece_size: int = msgspec.field(name="pieceSize")
    """The size of a full wrapped piece in bytes."""


class TaskInfo(msgspec.Struct, frozen=True):
    """A task, as the REST API shows it."""

    id: str = msgspec.field(name="ID")
    length: int = msgspec.field(name="fileLength")
    """The length of the file in bytes. -1: not known yet."""
    piece_size: int = msgspec.field(name="pieceSize")
    """The size of a full wrapped piece in bytes. 0: not known yet."""
    piece_total: int = msgspec.field(name="pieceTotal")
    """The number of pieces. 0: not known yet, or the file is empty."""
    cdn_status: CDNStatus = msgspec.field(name="cdnStatus")
    raw_url: str = msgspec.field(name="rawURL")
    """The URL without secrets."""

    @classmethod
    def of(cls, task: Task) -> Self:
        copy, source = task.copy, task.source
        return cls(
            id=task.id,
            length=-1 if copy.length is None else copy.length,
            piece_size=Wrapping(copy.piece_size).wire_size if copy.piece_size else 0,
            piece_total=copy.total or 0,
            cdn_status=copy.status,
            raw_url=str(RedactedURL(source.url)) if source is not None else "",
        )


class TaskQuery(msgspec.Struct, frozen=True):
    """The query of a request to delete a task."""

    full: bool = False
    """True to delete also the copy on the volume."""


class TaskUpdateRequest(msgspec.Struct, frozen=True):
    """The body with which a peer reports that it has the whole file."""

    peer: Text = msgspec.field(name="peerID")


class PieceQuery(msgspec.Struct, frozen=True):
    """The query of a client's request for pieces."""

    client: Short = msgspec.field(name="clientID")
    number: Annotated[int, Meta(ge=1, le=1_000_000)] = msgspec.field(name="num", default=4)


class PieceSource(msgspec.Struct, frozen=True):
    """A piece in an answer, and its provider."""

    client: str = msgspec.field(name="cID")
    """The ID of the provider."""
    range: str = msgspec.field(name="pieceRange")
    size: int = msgspec.field(name="pieceSize")
    md5: str = msgspec.field(name="pieceMD5")
    host: str = msgspec.field(name="peerIP")
    port: int = msgspec.field(name="peerPort")
    path: str

    @classmethod
    def of(cls, entry: PieceEntry) -> Self:
        return cls(
            entry.cid, entry.range, entry.piece_size, entry.piece_md5, entry.peer_ip, entry.peer_port, entry.path
        )


class PieceUpdateRequest(msgspec.Struct, frozen=True):
    """The body with which a client reports the result of fetching a piece."""

    source: Short = msgspec.field(name="srcCid")
    """The ID of the client that downloads."""
    status: PieceStatus
    result: PieceResult = PieceResult.INVALID
    provider: Text = msgspec.field(name="dstCid", default="")


class PreheatCreateRequest(msgspec.Struct, frozen=True):
    """The body of a request to fetch a file before a client asks for it."""

    type: Short
    """Always ``file``. For an image, preheat the URLs of its layers instead."""
    url: Text
    filter: Text = ""
    """Names of the URL's query parameters that do not change the content, joined by ``&``."""
    identifier: Text = ""
    headers: dict[str, str] = {}

    def registration(self) -> Registration:
        """The file as a registration. Raises :class:`InvalidValueError` and :class:`wire.MalformedRequestError`."""
        if self.type == "image":
            raise InvalidValueError("images cannot be preheated; preheat the URLs of their layers with type file")
        if self.type != "file":
            raise InvalidValueError(f"type {self.type!r} is not supported; use file")
        names = self.filter.split("&") if self.filter else []
        return TaskCreateRequest(
            client="preheat", url=self.url, identifier=self.identifier, headers=self.headers, filter=names
        ).registration()


class PreheatCreateResponse(msgspec.Struct, frozen=True):
    """The answer to a request to preheat a file: the ID of the preheat."""

    id: str = msgspec.field(name="ID")


class VersionInfo(msgspec.Struct, frozen=True):
    """The answer with the version of the supernode."""

    version: str = msgspec.field(name="Version")


def read(body: bytes, kind: type[T]) -> T:
    """Read a JSON object as ``kind``. Raises :class:`InvalidValueError`."""
    try:
        fields = msgspec.json.decode(body, type=dict[str, Any])
        return msgspec.convert(match_keys(fields.items(), kind), kind, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidValueError(f"the body is not a valid {kind.__name__}: {error}") from error
