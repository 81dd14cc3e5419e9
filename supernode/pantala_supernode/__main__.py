"""The command ``pantala-supernode``."""

from pantala_process import lifecycle


def main() -> None:
    lifecycle.start("pantala_supernode.process")


if __name__ == "__main__":
    main()
