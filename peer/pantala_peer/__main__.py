"""The command ``pantala-peer``, with its subcommands ``configure``, ``watch`` and ``cleanup``."""

import sys

from pantala_process import lifecycle


def main() -> None:
    """Run a peer until SIGTERM or SIGINT, or run a command for containerd's configuration."""
    command = "".join(sys.argv[1:2])
    if command in ("configure", "cleanup"):
        lifecycle.start("pantala_peer.containerd.command", stopped=130)  # its work is not done
    else:
        lifecycle.start("pantala_peer.containerd.command" if command == "watch" else "pantala_peer.app")


if __name__ == "__main__":
    main()
