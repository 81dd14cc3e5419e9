"""Fixtures of the tests of ``kubectl pantala``: a scripted API server, a scripted console and the program."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Command, FakeAPIServer, FakeConsole, serving


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignore the settings of the developer's shell, such as those of a demo."""
    for name in ("PANTALA_CONSOLE", "KUBECTL_PANTALA_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def api() -> Iterator[FakeAPIServer]:
    fake = FakeAPIServer()
    with serving(fake.server):
        yield fake


@pytest.fixture
def console() -> Iterator[FakeConsole]:
    fake = FakeConsole()
    with serving(fake.server):
        yield fake


@pytest.fixture
def command(api: FakeAPIServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(tmp_path, api.port, capsys)
