"""The runtime helper's flags, and the environment that mirrors them."""

from pathlib import Path

import pytest

from pantala_process.settings import SettingsError
from pantala_runtime.settings import Settings, parse


def test_all_settings_have_a_default() -> None:
    assert Settings() == parse([], {})


@pytest.mark.parametrize("prefix", ["unix:", "unix://"])
def test_flags_win_over_the_environment_that_mirrors_them(prefix: str) -> None:
    environment = {
        "PANTALA_RUNTIME": f"{prefix}/r.sock",
        "PANTALA_LISTEN": f"{prefix}/l.sock",
        "PANTALA_IMAGE_FILESYSTEM": "/images",
        "PANTALA_CONTENT": "/content",
    }
    assert Settings("unix:///r.sock", Path("/l.sock"), Path("/images"), Path("/content")) == parse([], environment)
    assert Path("/flag.sock") == parse(["--listen", "unix:/flag.sock"], environment).listen


@pytest.mark.parametrize("flag", ["--listen", "--runtime"])
def test_only_unix_sockets_are_accepted(flag: str) -> None:
    with pytest.raises(SettingsError, match=f"{flag} .* is not a unix socket"):
        parse([flag, "/run/x.sock"], {})
