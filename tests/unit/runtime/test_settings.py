"""Flags and the environment that mirrors them."""

from pathlib import Path

import pytest

from pantala_runtime.errors import SettingsError
from pantala_runtime.settings import Settings, parse


def test_nothing_has_to_be_given() -> None:
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


@pytest.mark.parametrize(
    "text", ["/run/x.sock", "tcp:127.0.0.1:1", "unix:", "unix:x.sock", "unix:///", f"unix:/{'x' * 107}"]
)
def test_only_a_unix_socket_is_listened_at(text: str) -> None:
    with pytest.raises(SettingsError, match="no unix socket"):
        parse(["--listen", text], {})
    with pytest.raises(SettingsError, match="no unix socket"):
        parse(["--runtime", text], {})


def test_an_unknown_flag_is_named() -> None:
    with pytest.raises(SettingsError, match="--frobnicate"):
        parse(["--frobnicate"], {})
