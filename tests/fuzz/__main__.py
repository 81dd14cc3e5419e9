"""``make fuzz``: hostile inputs for all parsers until Ctrl-C. Prints counts, and each new kind of crash once."""

import argparse
import itertools
import secrets
import time
from collections import Counter

from tests.fuzz.catalog import PARSERS
from tests.fuzz.mutation import inputs, long_inputs
from tests.fuzz.parser import FuzzError

_BATCH = 200
"""Inputs of one parser before it is the turn of the next one."""
_REPORT = 10.0
"""Seconds between two lines with the counts."""


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seed", type=int, default=secrets.randbits(32), help="repeat the inputs of a former run")
    arguments.add_argument("--only", default="", help="only parsers whose name contains this text")
    given = arguments.parse_args()
    chosen = {name: parser for name, parser in PARSERS.items() if given.only in name}
    streams = {name: inputs(parser.corpus, given.seed) for name, parser in chosen.items()}
    counts, crashes = Counter[str](), Counter[tuple[str, str]]()
    print(f"{len(chosen)} parsers, seed {given.seed}; Ctrl-C ends", flush=True)

    def attempt(name: str, data: bytes) -> None:
        counts[name] += 1
        try:
            chosen[name].run(data)
        except FuzzError as error:
            kind = (name, type(error.__cause__).__name__ if error.__cause__ is not None else "slow")
            crashes[kind] += 1
            if crashes[kind] == 1:
                print(f"CRASH {error}", flush=True)

    shown = time.monotonic()
    try:
        for name, parser in chosen.items():
            for data in long_inputs(parser.corpus):
                attempt(name, data)
        while True:
            for name, stream in streams.items():
                for data in itertools.islice(stream, _BATCH):
                    attempt(name, data)
                if time.monotonic() - shown > _REPORT:
                    shown = time.monotonic()
                    print(f"{counts.total()} inputs, {crashes.total()} crashes of {len(crashes)} kinds", flush=True)
    except KeyboardInterrupt:
        for name, count in counts.items():
            print(f"{count:10} {name}")
        print(f"{counts.total():10} inputs in all, {len(crashes)} kinds of crashes")
        for (name, kind), count in crashes.items():
            print(f"{count:10} {kind} of {name}")
    return 1 if crashes else 0


if __name__ == "__main__":
    raise SystemExit(main())
