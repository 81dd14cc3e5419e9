"""Runs ``kubectl-pantala``. Exit codes: 0 success, 1 failure with one line of text, 2 invalid flags, 130 Ctrl-C."""

import sys

from pantala_cli.app import app
from pantala_cli.errors import CLIError


def main() -> None:
    try:
        app()
    except CLIError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
