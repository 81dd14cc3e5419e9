"""Only errors that a parser declares come out of it, whatever the input. ``make fuzz`` tries inputs without end."""

import itertools

import pytest

from tests.fuzz.catalog import PARSERS
from tests.fuzz.mutation import inputs, long_inputs

COUNT = 12_000
"""Inputs of all parsers together, at least."""
EACH = -(-COUNT // len(PARSERS))


@pytest.mark.parametrize("name", PARSERS)
def test_a6_a_parser_raises_only_declared_errors(name: str) -> None:
    parser = PARSERS[name]
    valid = sum(parser.run(data) for data in itertools.islice(inputs(parser.corpus, seed=1), EACH))
    assert 0 < valid


@pytest.mark.parametrize("name", PARSERS)
def test_a6_a_parser_takes_linear_time(name: str) -> None:
    parser = PARSERS[name]
    for data in long_inputs(parser.corpus[:2]):
        parser.run(data)


def test_a6_a_parser_documents_its_errors() -> None:
    assert {} == {name: parser.undocumented for name, parser in PARSERS.items() if parser.undocumented}


def test_a6_the_same_seed_makes_the_same_inputs() -> None:
    one, other, third = (list(itertools.islice(inputs((b"abc",), seed), 50)) for seed in (1, 1, 2))
    assert one == other
    assert one != third
