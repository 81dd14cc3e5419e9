"""Captures TCP packets, to look for secrets in clear."""

import socket
import struct
import threading
from collections.abc import Iterable
from ipaddress import IPv4Network, ip_address
from typing import Self

_ALL = 0x0003
_BUFFER = 64 * 1024 * 1024
_RCVBUFFORCE = 33


class PacketCapture:
    """The bytes of all TCP segments from or to ``ports``, or else of those within ``network``.

    Without ``interface``, all interfaces are captured. Raises :class:`PermissionError` without root's rights.
    """

    def __init__(self, ports: Iterable[int] = (), *, interface: str = "lo", network: IPv4Network | None = None) -> None:
        self._ports = frozenset(ports)
        self._network = network
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, _BUFFER)
        if interface:
            self._socket.bind((interface, 0))
        self._socket.settimeout(0.2)
        self._streams: dict[tuple[int, int], bytearray] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._thread.join()
        self._socket.close()

    @property
    def size(self) -> int:
        return sum(len(each) for each in self._streams.values())

    def contains(self, secret: bytes) -> bool:
        return any(secret in stream for stream in self._streams.values())

    def _run(self) -> None:
        while not self._stopping:
            try:
                packet, address = self._socket.recvfrom(1 << 17)
            except TimeoutError:
                continue
            if self._network is not None or address[2] != socket.PACKET_OUTGOING:  # the loopback shows each one twice
                self._take(packet)

    def _take(self, packet: bytes) -> None:
        kind = struct.unpack_from("!H", packet, 12)[0]
        if kind == 0x0800 and packet[23] == socket.IPPROTO_TCP:
            start = 14 + (packet[14] & 15) * 4
        elif kind == 0x86DD and packet[20] == socket.IPPROTO_TCP:
            start = 14 + 40
        else:
            return
        source, target = struct.unpack_from("!HH", packet, start)
        if self._within(packet) if self._network is not None else self._ports & {source, target}:
            content = packet[start + (packet[start + 12] >> 4) * 4 :]
            self._streams.setdefault((source, target), bytearray()).extend(content)

    def _within(self, packet: bytes) -> bool:
        """Whether both ends of an IPv4 packet are in the network."""
        ends = (ip_address(packet[26:30]), ip_address(packet[30:34])) if packet[12:14] == b"\x08\x00" else ()
        return self._network is not None and bool(ends) and all(each in self._network for each in ends)
