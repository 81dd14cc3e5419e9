"""All parsers of input from outside, by the place that the input comes from."""

from typing import Final

from tests.fuzz import disk, registry, rest, wire
from tests.fuzz.parser import FuzzParser

PARSERS: Final[dict[str, FuzzParser]] = {
    f"{place}: {parser.name}": parser
    for place, parsers in (
        ("disk", disk.PARSERS),
        ("wire", wire.PARSERS),
        ("registry", registry.PARSERS),
        ("rest", rest.PARSERS),
    )
    for parser in parsers
}
"""The parsers by name, such as ``disk: journal``."""
