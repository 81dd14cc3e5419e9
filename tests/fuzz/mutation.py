"""Makes hostile inputs from valid ones. The same seed makes the same inputs."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final

TOKENS: Final = tuple(
    b'|\0|\xff|\xc3|\xed\xa0\x80|\xf0\x9f\x99\x82|\r\n|\r|\n\n|\t| |"|\\|\\u0000|\\ud83d|\\ud83d\\ude42|{|}|[|]|:|,'
    b"|null|true|-1|0|9007199254740993|18446744073709551616|99999999999999999999999|1e400|-0.0|NaN|0x7f|..|../|/|%"
    b"|%00|%2e%2e%2f|%ff"
    b"|?|#|@|*|=|;|<|'|`|bytes=|0-0|-|Bearer |Basic |sha256:|a|A|\xe2\x80\xa8|\xe2\x80\xae|\xef\xbb\xbf|\x7f|\xc2\x85"
    b"|Content-Length: 1\r\n|Transfer-Encoding: chunked\r\n|__proto__|\xd9\xa3|\xc2\xb2".split(b"|")
)
"""Bytes that parsers confuse: separators, limits of numbers, escapes, digits that are not ASCII."""

LONG: Final = 64 * 1024
"""Bytes of a long input, at most."""

_Change = Callable[[random.Random, bytearray, Sequence[bytes]], None]


def inputs(corpus: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """Endless inputs: first the valid ones, then ever other changes of them."""
    yield from corpus
    chance = random.Random(seed)
    while True:
        data = bytearray(chance.choice(corpus))
        for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
            chance.choice(_CHANGES)(chance, data, corpus)
        yield bytes(data[:LONG])


def long_inputs(corpus: Sequence[bytes]) -> Iterator[bytes]:
    """Long inputs on which a parser with backtracking or quadratic loops takes seconds."""
    for part in (
        *TOKENS,
        b'{"a":',
        b'[{"',
        b'\\"',
        b"a,",
        b"a=b,",
        b"a.",
        b"a-",
        b"0-1,",
        b"1",
        b" \t",
        b"%41",
        b'="\\',
    ):
        yield part * (LONG // max(len(part), 1))
    for whole in corpus:
        middle = len(whole) // 2
        for part in (b" ", b"a", b"0", b",", b"\\", b'"', b"[", b"-", b"/", b"="):
            yield whole[:middle] + part * (LONG - len(whole)) + whole[middle:]


def _place(chance: random.Random, data: bytearray) -> int:
    return chance.randrange(len(data) + 1)


def _flip(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _cut(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    del data[_place(chance, data) :]


def _remove(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    start = _place(chance, data)
    del data[start : start + chance.choice((1, 2, 8, 40))]


def _insert(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    start = _place(chance, data)
    data[start:start] = chance.choice(TOKENS) * chance.choice((1, 1, 1, 2, 300, 5000))


def _replace(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    start = _place(chance, data)
    data[start : start + chance.choice((1, 2, 4))] = chance.choice(TOKENS)


def _repeat(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    start = _place(chance, data)
    part = bytes(data[start : start + chance.choice((1, 4, 20, 100))])
    data[start:start] = part * chance.choice((1, 2, 100))


def _splice(chance: random.Random, data: bytearray, corpus: Sequence[bytes]) -> None:
    other = chance.choice(corpus)
    start = chance.randrange(len(other) + 1)
    data[_place(chance, data) :] = other[start:]


def _noise(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    start = _place(chance, data)
    data[start:start] = chance.randbytes(chance.choice((1, 3, 30)))


_CHANGES: tuple[_Change, ...] = (
    _flip, _flip, _cut, _remove, _insert, _insert, _replace, _replace, _repeat, _splice, _noise,
)  # fmt: skip
