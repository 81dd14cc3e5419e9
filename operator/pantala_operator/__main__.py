"""The command ``pantala-operator``."""

from pantala_process import lifecycle


def main() -> None:
    """Run an operator until SIGTERM or SIGINT."""
    lifecycle.start("pantala_operator.app")


if __name__ == "__main__":
    main()
