"""The command ``pantala-peer``, with its subcommands ``configure`` and ``cleanup``."""

import sys

from pantala_process import lifecycle


def main() -> None:
    """Run a peer until SIGTERM or SIGINT, or configure this node's containerd, or restore its configuration."""
    command = sys.argv[1:2] in (["configure"], ["cleanup"])
    lifecycle.start("pantala_peer.containerd.command" if command else "pantala_peer.app")


if __name__ == "__main__":
    main()
