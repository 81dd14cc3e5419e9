"""``--log-level`` decides which lines are in the log."""

import logging
import subprocess
import sys

import pytest

from pantala_process import settings


@pytest.mark.parametrize(("text", "level"), [("debug", 10), ("info", 20), ("warning", 30), ("error", 40)])
def test_levels_have_names(text: str, level: int) -> None:
    assert level == settings.log_level(text)


@pytest.mark.parametrize("text", ["loud", "INFO", "20", "notset"])
def test_another_word_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Give debug, info, warning or error"):
        settings.log_level(text)


@pytest.mark.parametrize(
    ("level", "expected"), [("debug", {"a", "b", "c"}), ("info", {"b", "c"}), ("warning", {"c"}), ("error", set())]
)
def test_lines_below_the_level_are_hidden(level: str, expected: set[str]) -> None:
    """In a process of its own, because the settings of logs are global."""
    program = (
        "import logging, structlog, sys; from pantala_process import logs; "
        f"logs.configure({settings.log_level(level)}); log = structlog.get_logger('x'); "
        "log.debug('line-a'); log.info('line-b'); logging.getLogger('y').warning('line-c')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert expected == {word for word in "abc" if f"line-{word}" in done.stderr}
    assert logging.INFO == settings.log_level("info")
