"""Registries' permissions are remembered without their headers, and forgotten in time."""

import pytest

from pantala_supernode.registry.permissions import SECONDS, RegistryPermissions
from tests.unit.supernode.conftest import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def permissions(clock: Clock) -> RegistryPermissions:
    return RegistryPermissions(b"k" * 32, clock)


def test_a_permission_is_for_one_repository_and_one_header_for_some_minutes(
    permissions: RegistryPermissions, clock: Clock
) -> None:
    permissions.allow("a.b/x", "Bearer one")
    clock.now += SECONDS - 1
    assert permissions.allows("a.b/x", "Bearer one")
    for other in (("a.b/y", "Bearer one"), ("a.b/x", "Bearer two"), ("a.b/x", ""), ("a.b/xBearer", " one")):
        assert not permissions.allows(*other)
    clock.now += 1
    assert not permissions.allows("a.b/x", "Bearer one")


def test_an_anonymous_permission_is_for_every_header(permissions: RegistryPermissions) -> None:
    permissions.allow("a.b/x", "")
    assert permissions.allows("a.b/x", "Bearer anything")


def test_permissions_hold_no_header(permissions: RegistryPermissions) -> None:
    permissions.allow("a.b/x", "Bearer secret")
    assert "secret" not in repr(vars(permissions._allowed))
