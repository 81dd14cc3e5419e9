"""Lets only one run at a time use the cluster of this machine."""

import fcntl
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from testbed.cluster import layout
from testbed.cluster.cluster import Cluster, down, status
from testbed.cluster.command import CommandError


@contextmanager
def turn(within: float = 2400.0) -> Iterator[None]:
    """Wait until no other run uses the cluster, then reserve it. The reservation ends with the process.

    Raises :class:`CommandError` after ``within`` seconds.
    """
    deadline = time.monotonic() + within
    with layout.TURN.open("w") as file:
        while not _taken(file.fileno()):
            if deadline - time.monotonic() <= 0:
                raise CommandError(
                    f"Another run has used the cluster for {within:.0f} s. Find the process that locks {layout.TURN}."
                )
            print(f"another run uses the cluster ({layout.TURN}); waiting for its end", file=sys.stderr, flush=True)
            time.sleep(min(10.0, within))
        yield


@contextmanager
def lent(nodes: int, *, keep: bool = False) -> Iterator[Cluster]:
    """Use the cluster in a :func:`turn`.

    At the end, the cluster is removed if it did not run before, except with ``keep``.
    """
    with turn():
        was_up = "kubelet" in status()
        try:
            yield Cluster.up(nodes)
        finally:
            if not (was_up or keep):
                down()


def _taken(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
