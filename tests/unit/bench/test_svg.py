"""A plot is a well-formed SVG document whose bars have the right heights."""

from xml.etree import ElementTree

import pytest

from bench.report.svg import Chart, render, steps

SVG = "{http://www.w3.org/2000/svg}"


def parsed(document: str) -> ElementTree.Element:
    return ElementTree.fromstring(document)  # noqa: S314 - the bench has written it


def bars(document: str) -> list[tuple[str, float]]:
    """The color and the height of each bar. The squares of the legend are left out."""
    found = parsed(document).iter(f"{SVG}rect")
    return [(rect.attrib["fill"], float(rect.attrib["height"])) for rect in found if rect.attrib["width"] != "10"]


def texts(document: str) -> list[str]:
    return [text.text or "" for text in parsed(document).iter(f"{SVG}text")]


def test_bars_are_as_high_as_their_values() -> None:
    chart = Chart("t", ("1", "2"), {"swarm": (1.0, 2.0), "direct": (4.0, None)})
    found = bars(render([chart]))
    assert 3 == len(found)
    lowest = found[0][1]
    assert [1.0, 4.0, 2.0] == [pytest.approx(height / lowest, rel=0.01) for _, height in found]
    assert found[0][0] == found[2][0] != found[1][0]


def test_names_are_escaped() -> None:
    chart = Chart("a < b & c", ("<1>",), {"x & y": (1.0,)})
    assert {"a < b & c", "<1>", "x & y"} <= set(texts(render([chart])))


def test_charts_stand_below_each_other() -> None:
    chart = Chart("t", ("1",), {"s": (1.0,)})
    one, two = (parsed(render([chart] * count)) for count in (1, 2))
    assert 2 * int(one.attrib["height"]) == int(two.attrib["height"])


@pytest.mark.parametrize(("labels", "values"), [((), {}), (("1",), {"s": (None,)}), (("1",), {"s": (0.0,)})])
def test_a_chart_without_values_is_empty(labels: tuple[str, ...], values: dict[str, tuple[float | None, ...]]) -> None:
    assert 0.0 == sum(height for _, height in bars(render([Chart("t", labels, values)])))


def test_a_limit_is_a_dashed_line_within_the_chart() -> None:
    document = parsed(render([Chart("t", ("1",), {"s": (1.0,)}, limit=3.0)]))
    lines = [line for line in document.iter(f"{SVG}line") if line.attrib["class"] == "limit"]
    assert 1 == len(lines)
    assert 0 < float(lines[0].attrib["y1"]) < float(document.attrib["height"])


@pytest.mark.parametrize(
    ("highest", "expected"),
    [
        (0.0, [0.0, 1.0]),
        (1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (4.3, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
        (760.0, [0.0, 200.0, 400.0, 600.0, 800.0]),
    ],
)
def test_steps_are_round_and_reach_the_highest_value(highest: float, expected: list[float]) -> None:
    assert expected == pytest.approx(steps(highest))
