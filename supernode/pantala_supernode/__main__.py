"""``pantala-supernode``: ends with 0 on a signal from its first moment on, though what it imports takes a second."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run a supernode until SIGTERM or SIGINT. See :func:`pantala_supernode.process.main`.

    Exits with 2 for wrong settings, before the rest is imported.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))  # as the first process of a container it would else not see it

    from pantala_supernode.settings import SettingsError, read

    try:
        settings = read(sys.argv[1:], os.environ)
    except SettingsError as error:
        sys.stderr.write(f"pantala-supernode: {error}\n")
        sys.exit(2)

    from pantala_supernode import process

    process.main(settings)


if __name__ == "__main__":
    main()
