"""The choice of an image in an index equals containerd's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_supernode.registry import platform
from pantala_supernode.registry.platform import Platform

platforms = st.builds(
    platform.normal,
    st.sampled_from(["linux", "windows"]),
    st.sampled_from(["amd64", "386", "arm", "arm64", "s390x"]),
    st.sampled_from(["", "v1", "v2", "v3", "v5", "v6", "v7", "v8", "v8.2", "v9", "v9.1"]),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", "linux/amd64"),
        ("Linux/x86_64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/i386/v1", "linux/386"),
    ],
)
def test_a_platform_has_one_spelling(text: str, expected: str) -> None:
    assert expected == str(platform.parse(text))


@pytest.mark.parametrize("text", ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/amd 64", "linux/" + "x" * 33])
def test_an_invalid_platform_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="platform"):
        platform.parse(text)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("linux/amd64", "linux/amd64 linux/386"),
        ("linux/amd64/v3", "linux/amd64/v3 linux/amd64/v2 linux/amd64 linux/386"),
        ("linux/arm/v7", "linux/arm/v7 linux/arm/v6 linux/arm/v5"),
        ("linux/arm64", "linux/arm64 linux/arm/v8 linux/arm/v7 linux/arm/v6 linux/arm/v5"),
        (
            "linux/arm64/v9",
            " ".join(f"linux/arm64/{variant}" for variant in ("v9", "v8.5", "v8.4", "v8.3", "v8.2", "v8.1"))
            + " linux/arm64 linux/arm/v8 linux/arm/v7 linux/arm/v6 linux/arm/v5",
        ),
        ("linux/s390x", "linux/s390x"),
    ],
)
def test_platforms_are_ordered_as_in_containerd(wanted: str, expected: str) -> None:
    assert expected == " ".join(map(str, platform.acceptable(platform.parse(wanted))))


def test_the_best_image_wins_then_the_first_entry() -> None:
    offered = [
        (Platform("linux", "386"), "worse"),
        (Platform("linux", "amd64"), "a"),
        (Platform("linux", "amd64"), "b"),
    ]
    assert platform.choose(Platform("linux", "amd64"), offered) == "a"


def test_an_image_without_a_platform_is_the_last_choice() -> None:
    amd64 = Platform("linux", "amd64")
    assert platform.choose(amd64, [(None, "any"), (Platform("linux", "386"), "old")]) == "old"
    assert platform.choose(amd64, [(Platform("unknown", "unknown"), "attestation"), (None, "any")]) == "any"
    assert platform.choose(amd64, [(Platform("unknown", "unknown"), "attestation")]) is None


@given(platforms, st.lists(st.tuples(platforms, st.integers())))
def test_the_chosen_image_is_the_best_one_that_runs(wanted: Platform, offered: list[tuple[Platform, int]]) -> None:
    order = platform.acceptable(wanted)
    found = platform.choose(wanted, ((given, (given, number)) for given, number in offered))
    fitting = [order.index(given) for given, _ in offered if given in order]
    assert (min(fitting) if fitting else None) == (None if found is None else order.index(found[0]))
    assert len(order) == len(set(order))
