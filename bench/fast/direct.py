"""Direct downloads from the origin: ``curl -o FILE``, and ``curl | openssl dgst -sha256``."""

import subprocess
import time
from pathlib import Path

from bench.errors import BenchError
from bench.loopback import LoopbackOrigin
from bench.memory import check
from bench.origin.ingest import hash_by_openssl
from bench.usage import Meter


def download(origin: LoopbackOrigin, folder: Path, clients: int, sha256: str) -> tuple[float, Meter]:
    """Download the file ``clients`` times at once. Returns the seconds, and the meter: its ``own`` CPU is curl's."""
    files = [folder / f"direct-{number}" for number in range(clients)]
    meter = Meter({"origin": [origin.pid]})
    began = time.monotonic()
    running = [subprocess.Popen(["curl", "-sS", "--fail", "-o", str(file), origin.url]) for file in files]
    try:
        failed = [process.returncode for process in running if process.wait()]
    finally:
        for process in running:
            process.kill()
            process.wait()
    seconds = time.monotonic() - began
    meter.stop()
    if failed:
        raise BenchError(f"curl ended with {failed[0]}.")
    for file in files:
        check(file, sha256)
    return seconds, meter


def hashed(origin: LoopbackOrigin, clients: int, sha256: str) -> tuple[float, Meter]:
    """Download and verify the file ``clients`` times at once, without writing it. Returns the same as download."""
    meter = Meter({"origin": [origin.pid]})
    seconds = hash_by_openssl([origin.url] * clients, sha256)[-1]
    meter.stop()
    return seconds, meter
