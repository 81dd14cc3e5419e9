"""``python -m bench.fast.floor send|receive ...``: the least work of a verified transfer, with blocking sockets.

A sender sends pieces of 4 MiB by ``sendfile`` over four connections. A receiver takes them with four threads, computes
the BLAKE3 digest of each and writes it. No transfer in Python is cheaper, so the rate is what this machine allows.
"""

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bench.errors import BenchError
from bench.memory import MEBIBYTE
from bench.network import Loopback
from bench.swarm import wait
from bench.usage import Meter
from pantala_pieces.digests import PieceHash
from testbed.process import Process

_PIECE = 4 * MEBIBYTE
_CONNECTIONS = 4
_HEAD = 8


def measure(file: Path, folder: Path, receivers: int) -> tuple[float, Meter]:
    """Transfer the file to ``receivers`` processes at once. Returns the seconds, and the CPU of sender and receivers.

    The groups of the meter are ``supernode`` and ``peers``, which do this work in a swarm.
    """
    port = str(Loopback().port(0))
    size = str(file.stat().st_size)
    outputs = [folder / f"floor-{number}" for number in range(receivers)]
    with ExitStack() as stack:

        def start(log: Path, *arguments: str) -> Process:
            process = Process([sys.executable, "-m", "bench.fast.floor", *arguments], log)
            stack.callback(process.kill)
            wait(lambda: "ready" in process.tail(), "a process that measures the limit is ready", 30)
            return process

        sender = start(folder / "floor-send.log", "send", port, str(file))
        pids = [start(output.with_suffix(".log"), "receive", port, str(output), size).pid for output in outputs]
        meter = Meter({"supernode": [sender.pid], "peers": pids})
        for output in outputs:
            output.with_suffix(".go").touch()
        wait(lambda: all(output.with_suffix(".done").exists() for output in outputs), "all receivers end", 120)
        meter.stop()
    if any(output.stat().st_size != file.stat().st_size for output in outputs):
        raise BenchError("A receiver that measures the limit has an incomplete file.")
    seconds = max(output.with_suffix(".done").stat().st_mtime for output in outputs) - meter.began
    return seconds, meter


def send(port: int, name: str) -> None:
    """Serve the requested ranges over each connection, until the process is killed."""
    descriptor = os.open(name, os.O_RDONLY)
    size = os.fstat(descriptor).st_size
    with socket.create_server(("127.0.0.1", port)) as server:
        print("ready", flush=True)
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_serve, args=(connection, descriptor, size), daemon=True).start()


def receive(port: int, name: str, size: int) -> None:
    """Take the file when ``NAME.go`` exists, and create ``NAME.done`` at the end."""
    output = Path(name)
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT)
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(_CONNECTIONS)]
    print("ready", flush=True)
    while not output.with_suffix(".go").exists():
        time.sleep(0.001)
    offsets = iter(range(0, size, _PIECE))
    lock = threading.Lock()
    threads = [
        threading.Thread(target=_take, args=(connection, descriptor, size, offsets, lock)) for connection in connections
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    output.with_suffix(".done").touch()
    time.sleep(60)  # the caller reads the CPU time, and then kills this process


def _serve(connection: socket.socket, descriptor: int, size: int) -> None:
    while head := connection.recv(_HEAD, socket.MSG_WAITALL):
        offset = int.from_bytes(head, "big")
        end = min(offset + _PIECE, size)
        while offset < end:
            offset += os.sendfile(connection.fileno(), descriptor, offset, end - offset)


def _take(connection: socket.socket, descriptor: int, size: int, offsets: Iterator[int], lock: threading.Lock) -> None:
    buffer = memoryview(bytearray(_PIECE))
    while True:
        with lock:
            offset = next(offsets, None)
        if offset is None:
            return
        wanted = min(_PIECE, size - offset)
        connection.sendall(offset.to_bytes(_HEAD, "big"))
        received = 0
        while received < wanted:
            received += connection.recv_into(buffer[received:wanted], wanted - received, socket.MSG_WAITALL)
        PieceHash(buffer[:wanted]).digest()
        os.pwrite(descriptor, buffer[:wanted], offset)


if __name__ == "__main__":
    if sys.argv[1] == "send":
        send(int(sys.argv[2]), sys.argv[3])
    else:
        receive(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
