"""``pantala-runtime``: ends with 0 on a signal from its first moment on, though what it imports takes a second."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run a helper until SIGTERM or SIGINT. See :func:`pantala_runtime.process.main`."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))  # as the first process of a container it would else not see it

    from pantala_runtime import process

    process.main()


if __name__ == "__main__":
    main()
