"""The command ``pantala-runtime``."""

from pantala_process import lifecycle


def main() -> None:
    """Run a runtime helper until SIGTERM or SIGINT."""
    lifecycle.start("pantala_runtime.app")


if __name__ == "__main__":
    main()
