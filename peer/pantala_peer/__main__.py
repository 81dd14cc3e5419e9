"""The command ``pantala-peer``, with its subcommands ``configure``, ``watch`` and ``cleanup``."""

import sys

from pantala_process import lifecycle


def main() -> None:
    """Run a peer until SIGTERM or SIGINT, or run a command for containerd's configuration."""
    command = sys.argv[1:2] in (["configure"], ["watch"], ["cleanup"])
    lifecycle.start("pantala_peer.containerd.command" if command else "pantala_peer.app")


if __name__ == "__main__":
    main()
