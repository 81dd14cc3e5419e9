"""Dragonfly's clients are served if enabled, and their copies stay for a while."""

import pytest

from pantala_process.settings import SettingsError
from pantala_supernode.settings import parse


@pytest.mark.parametrize(
    ("flags", "environment", "expected"),
    [
        ([], {}, (False, 0.0)),
        (["--dragonfly"], {}, (True, 21600.0)),
        ([], {"PANTALA_DRAGONFLY": "1"}, (True, 21600.0)),
        (["--dragonfly", "--cache-seconds", "0"], {}, (True, 0.0)),
        ([], {"PANTALA_CACHE_SECONDS": "60"}, (False, 60.0)),
    ],
)
def test_copies_stay_for_dragonflys_clients(
    flags: list[str], environment: dict[str, str], expected: tuple[bool, float]
) -> None:
    settings = parse(["--data", "/d", *flags], environment)
    assert expected == (settings.dragonfly, settings.cache_seconds)


@pytest.mark.parametrize("text", ["-1", "x", "1.5", "9" * 10])
def test_seconds_are_a_whole_number(text: str) -> None:
    with pytest.raises(SettingsError, match="cache-seconds"):
        parse(["--data", "/d", f"--cache-seconds={text}"], {})
