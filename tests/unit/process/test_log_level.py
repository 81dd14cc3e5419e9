"""``--log-level`` takes the names of levels."""

import pytest

from pantala_process import settings


@pytest.mark.parametrize(("text", "level"), [("debug", 10), ("info", 20), ("warning", 30), ("error", 40)])
def test_levels_have_names(text: str, level: int) -> None:
    assert level == settings.log_level(text)


@pytest.mark.parametrize("text", ["loud", "INFO", "20", "notset"])
def test_another_word_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Give debug, info, warning or error"):
        settings.log_level(text)
