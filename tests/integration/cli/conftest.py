"""The processes of ``kubectl pantala`` with a scripted API server and a scripted console."""

from tests.support.cli_fixtures import api, command, console, no_settings

__all__ = ["api", "command", "console", "no_settings"]
