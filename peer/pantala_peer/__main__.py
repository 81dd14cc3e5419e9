"""``pantala-peer``: ends with 0 on a signal from its first moment on, though what it imports takes a second.

``configure`` and ``cleanup`` are beside it.
"""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run a peer until SIGTERM or SIGINT; or configure the node's containerd, or put it back.

    See :func:`pantala_peer.process.main` and :func:`pantala_peer.containerd.command.main`.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))  # as the first process of a container it would else not see it

    from pantala_peer.containerd import command

    if sys.argv[1:2] and sys.argv[1] in command.NAMES:
        command.main()
        return

    from pantala_peer import process

    process.main()


if __name__ == "__main__":
    main()
