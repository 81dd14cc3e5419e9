"""``pantala-supernode``."""

from pantala_process import lifecycle


def main() -> None:
    """Run a supernode until SIGTERM or SIGINT."""
    lifecycle.start("pantala_supernode.process")


if __name__ == "__main__":
    main()
