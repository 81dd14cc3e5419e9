"""Between the bodies of Dragonfly's REST API and what the supernode knows."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from pantala_protocol import task_id
from pantala_protocol.redaction import RedactedURL
from pantala_protocol.wrapping import Wrapping
from pantala_supernode.dragonfly import wire
from pantala_supernode.dragonfly.models import (
    PeerInfo,
    PieceInfo,
    PreheatCreateRequest,
    PreheatInfo,
    TaskCreateRequest,
    TaskInfo,
)
from pantala_supernode.dragonfly.preheat import Preheat, PreheatOrder
from pantala_supernode.errors import InvalidValueError
from pantala_supernode.swarm.peer import SwarmPeer
from pantala_supernode.tasks.task import Task


def address(text: str) -> str:
    """An IP address in its one form. Raises :class:`InvalidValueError`."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise InvalidValueError(f"IP {text!r} is no address") from None


def registration(asked: TaskCreateRequest, peer: SwarmPeer | None) -> wire.Registration:
    """What a client wants, as it is checked for all of Dragonfly's clients. Raises :class:`wire.BadWordError`."""
    fields = {
        "rawUrl": asked.url,
        "taskUrl": task_id.without_query_parameters(asked.url, asked.filter),
        "cid": asked.client,
        "ip": peer.address if peer is not None else "",
        "port": peer.port if peer is not None else 0,
        "path": asked.path,
        "md5": asked.md5,
        "identifier": asked.identifier,
        "headers": [f"{name}: {text}" for name, text in asked.headers.items()],
        "dfdaemon": asked.dfdaemon,
    }
    return wire.registration(msgspec.json.encode(fields))


def preheat_order(asked: PreheatCreateRequest) -> PreheatOrder:
    """A preheat. Raises :class:`InvalidValueError`, :class:`wire.BadWordError`."""
    if asked.type == "image":
        raise InvalidValueError("images are not preheated; preheat the URLs of their layers with type file")
    if asked.type != "file":
        raise InvalidValueError(f"type {asked.type!r}: give file")
    names = asked.filter.split("&") if asked.filter else []
    meant = TaskCreateRequest(
        client="preheat", url=asked.url, identifier=asked.identifier, headers=asked.headers, filter=names
    )
    checked = registration(meant, None)
    return PreheatOrder(checked.task_id, checked.raw_url, checked.headers)


def peer_info(peer: SwarmPeer) -> PeerInfo:
    """A peer, as it is shown."""
    return PeerInfo(peer.name, peer.address, peer.host or peer.name, peer.port, peer.version)


def task_info(task: Task) -> TaskInfo:
    """A task, as it is shown."""
    copy, source = task.copy, task.source
    return TaskInfo(
        id=task.id,
        length=-1 if copy.length is None else copy.length,
        piece_size=Wrapping(copy.piece_size).wire_size if copy.piece_size else 0,
        piece_total=copy.total or 0,
        cdn_status=copy.status,
        raw_url=str(RedactedURL(source.url)) if source is not None else "",
    )


def piece_info(entry: Mapping[str, Any]) -> PieceInfo:
    """A piece that was given, from what dfget would be told."""
    return PieceInfo(
        client=entry["cid"],
        range=entry["range"],
        size=entry["pieceSize"],
        md5=entry["pieceMd5"],
        host=entry["peerIp"],
        port=entry["peerPort"],
        path=entry["path"],
    )


def preheat_info(preheat: Preheat) -> PreheatInfo:
    """A preheat, as it is shown."""

    def at(seconds: float) -> datetime:
        return datetime.fromtimestamp(seconds, UTC)

    return PreheatInfo(
        id=preheat.id,
        status=preheat.status,
        started_at=at(preheat.started_at),
        finished_at=at(preheat.finished_at) if preheat.finished_at is not None else None,
        message=preheat.message,
    )
