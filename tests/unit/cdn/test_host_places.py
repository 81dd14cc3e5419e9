"""Places for requests to registries, some of which never answer."""

import asyncio

import pytest

from pantala_supernode.origin.places import HostPlaces

pytestmark = pytest.mark.virtual_time


async def hold(places: HostPlaces[str], host: str) -> None:
    async with places.place(host):
        await asyncio.sleep(1000)


async def test_h7_hosts_that_do_not_answer_leave_places_for_others() -> None:
    places = HostPlaces[str](128, 16)
    dead = [asyncio.create_task(hold(places, f"dead-{number % 16}")) for number in range(16 * 16)]
    await asyncio.sleep(1)
    async with asyncio.timeout(1), places.place("alive"):
        pass
    for each in dead:
        each.cancel()
    await asyncio.gather(*dead, return_exceptions=True)
    alone = [asyncio.create_task(hold(places, "alive")) for _ in range(20)]
    await asyncio.sleep(1)
    assert {"alive": 16} == places._held
    for each in alone:
        each.cancel()
    await asyncio.gather(*alone, return_exceptions=True)
    assert (128, {}) == (places._free, places._held)


async def test_a_host_gets_a_place_as_soon_as_one_is_free() -> None:
    places = HostPlaces[str](2, 2)
    waiting = [asyncio.create_task(hold(places, name)) for name in "ab"]
    await asyncio.sleep(1)
    third = asyncio.create_task(hold(places, "c"))
    await asyncio.sleep(1)
    assert "c" not in {name for name, count in places._held.items() if count}
    waiting[0].cancel()
    await asyncio.sleep(1)
    assert 1 == places._held["c"]
    for each in (waiting[1], third):
        each.cancel()
    await asyncio.gather(*waiting, third, return_exceptions=True)
