"""Sizes as Kubernetes writes them."""

import pytest

from pantala_protocol.rules import quantity


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7", 7),
        ("1Ki", 1024),
        ("1024Mi", 1 << 30),
        ("1.5Gi", 3 << 29),
        ("1Ti", 1 << 40),
        ("1Pi", 1 << 50),
        ("3k", 3000),
        ("2G", 2 * 10**9),
        ("2P", 2 * 10**15),
    ],
)
def test_quantities(text: str, expected: int) -> None:
    assert expected == quantity.parse(text)


@pytest.mark.parametrize("text", ["", "Gi", "-1Gi", "1Zi", "1K", "1 Gi", "1e3", ".5", "9" * 21])
def test_other_texts_are_not_quantities(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        quantity.parse(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0"), (1023, "1023"), (1024, "1Ki"), (1536, "1.5Ki"), (256 << 20, "256Mi"), (1 << 60, "1024Pi")],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert text == quantity.render(size)
