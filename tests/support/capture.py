"""Captures the packets of some TCP ports on the loopback interface."""

import socket
import struct
import threading
from collections.abc import Iterable
from typing import Self

_ALL = 0x0003
_SIOCGSTAMP_BUFFER = 64 * 1024 * 1024
_RCVBUFFORCE = 33


class LoopbackCapture:
    """The bytes of all TCP segments from and to ``ports``. Raises :class:`PermissionError` without root's rights."""

    def __init__(self, ports: Iterable[int]) -> None:
        self._ports = frozenset(ports)
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, _SIOCGSTAMP_BUFFER)
        self._socket.bind(("lo", 0))
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
            if address[2] != socket.PACKET_OUTGOING:  # each packet of the loopback is seen twice
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
        if source in self._ports or target in self._ports:
            content = packet[start + (packet[start + 12] >> 4) * 4 :]
            self._streams.setdefault((source, target), bytearray()).extend(content)
