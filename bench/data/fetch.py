"""``python -m bench.data.fetch URL FILE`` downloads a file directly, and prints the seconds without Python's start."""

import shutil
import sys
import time
import urllib.request
from pathlib import Path


def main() -> None:
    url, name = sys.argv[1:]
    began = time.monotonic()
    with urllib.request.urlopen(url, timeout=60) as answer, Path(name).open("wb") as file:
        shutil.copyfileobj(answer, file, 256 * 1024)
    print(time.monotonic() - began)


if __name__ == "__main__":
    main()
