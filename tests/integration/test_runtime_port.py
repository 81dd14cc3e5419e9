"""The promises of a container runtime: containerd keeps them, and so does the fake of the unit tests. Needs root."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pantala_runtime.containerd import Containerd as ContainerdClient
from pantala_runtime.errors import NoSuchImageError
from pantala_runtime.runtime import ContainerRuntime
from testbed.containerd import Containerd
from testbed.image import Image, Layer, build, push
from testbed.registry import Registry
from tests.support.containerds import EACH, MARKS
from tests.support.eventually import eventually
from tests.support.runtime import FakeRuntime


@dataclass
class Subject:
    """A runtime without images, and the name and digest of an image in a registry."""

    runtime: ContainerRuntime
    name: str
    digest: str
    honours_pins: bool = True
    """Debian 12 has containerd 1.6.20, which ignores pins."""

    @property
    def by_digest(self) -> str:
        return f"{self.name}@{self.digest}"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return build(tmp_path_factory.mktemp("image"), [Layer(1000, seed=41)])


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, image: Image) -> Iterator[Registry]:
    with Registry(tmp_path_factory.mktemp("registry")) as registry:
        push(image, registry.host, "team/app", "1")
        yield registry


REAL = [pytest.param(*(each.values if hasattr(each, "values") else (each,)), marks=MARKS) for each in EACH]


@pytest.fixture(params=["memory", *REAL])
async def subject(request: pytest.FixtureRequest, tmp_path: Path, image: Image) -> AsyncIterator[Subject]:
    if request.param == "memory":
        name = "registry.example/team/app"
        names = (f"{name}:1", f"{name}@{image.digest}")
        yield Subject(FakeRuntime(dict.fromkeys(names, image.digest)), name, image.digest)
        return
    registry: Registry = request.getfixturevalue("registry")
    with Containerd(tmp_path / "containerd", request.param) as containerd:
        async with ContainerdClient(containerd.address) as runtime:
            await eventually(runtime.version, ignoring=Exception)
            yield Subject(runtime, f"{registry.host}/team/app", image.digest, containerd.version >= (1, 7))


async def test_a_pulled_image_is_listed_by_tag_and_digest(subject: Subject) -> None:
    runtime, tag = subject.runtime, f"{subject.name}:1"
    assert ([], None) == (await runtime.images(), await runtime.image(tag))
    await runtime.pull(tag, None)
    found = await eventually(lambda: runtime.image(tag))
    assert ((tag,), (subject.by_digest,), False) == (found.tags, found.digests, found.pinned)
    assert found in await runtime.images()
    assert subject.digest == await runtime.digest(tag)


async def test_a_name_stands_for_an_image_that_was_pulled_by_digest(subject: Subject) -> None:
    runtime, tag = subject.runtime, f"{subject.name}:2"
    await runtime.pull(subject.by_digest, None)
    for _ in range(2):
        await runtime.name(subject.by_digest, tag)
    found = await eventually(lambda: runtime.image(tag))
    assert tag in found.tags
    assert subject.digest == await runtime.digest(tag)


async def test_a_pin_shows_in_the_image_until_it_is_removed(subject: Subject) -> None:
    """A pull of another name keeps it."""
    runtime = subject.runtime
    await runtime.pull(subject.by_digest, None)
    for pinned in (True, False):
        await runtime.mark_pinned(subject.by_digest, pinned)
        await runtime.pull(f"{subject.name}:1", None)

        async def shows(pinned: bool = pinned) -> bool:
            found = await runtime.image(subject.by_digest)
            return found is not None and found.pinned == (pinned and subject.honours_pins)

        await eventually(shows)


async def test_an_image_that_does_not_exist_is_an_error(subject: Subject) -> None:
    runtime, missing = subject.runtime, f"{subject.name}@sha256:{'0' * 64}"
    for call in (
        runtime.pull(missing, None),
        runtime.pull(f"{subject.name}:4", None),
        runtime.pull(f"{subject.name}/none:1", None),
        runtime.name(missing, f"{subject.name}:3"),
        runtime.mark_pinned(missing, True),
        runtime.digest(missing),
    ):
        with pytest.raises(NoSuchImageError):
            await call
    assert await runtime.image(missing) is None
