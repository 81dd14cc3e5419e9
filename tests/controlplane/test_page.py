"""The console's web page in a real Chromium, while the whole product distributes files on slow links."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from pantala_cli.show import tables
from pantala_protocol.reasons import Reason
from testbed.browser import BrowserPage, available
from testbed.image import Layer, build, push
from testbed.origin import Behaviour, Generated
from testbed.registry import Registry
from tests.support.console_lab import CONTRAST, ConsoleLab, console_lab, showing
from tests.support.product_stage import MIB

pytestmark = [
    pytest.mark.controlplane,
    pytest.mark.timeout(300),  # the first test may install Chromium
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not available(), reason="Chromium is not installed, and only root can install it"),
]

ZONES = {"node-1": "zone-a", "node-2": "zone-a", "node-3-with-a-very-long-name.eu-west-1.compute.internal": "zone-b"}
SIZE = 20 * MIB
LARGE = "a-large-file-with-a-long-name-that-must-never-be-cut-off-anywhere"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ConsoleLab]:
    folder = tmp_path_factory.mktemp("page")
    async with console_lab(folder, ZONES, "--serve-rate", "4Mi", "--origin-rate", "6Mi") as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page(lab: ConsoleLab) -> AsyncIterator[BrowserPage]:
    async with showing(lab) as shown:
        yield shown


@pytest.fixture(autouse=True)
def no_errors(page: BrowserPage) -> Iterator[None]:
    """No test causes an error or a warning in the console of the page."""
    yield
    assert [] == page.errors


EQUAL = """
(() => {
  const view = window.answers["/api/v1/console"];
  const wrong = [];
  const same = (what, element, value) => {
    const expected = value === null ? "" : String(value);
    if (element?.dataset.value !== expected) wrong.push(`${what}: ${element?.dataset.value} instead of ${expected}`);
  };
  const byId = (id) => document.getElementById(id);
  same("saved", byId("saved"), view.saved);
  same("rate", byId("rate-now"), view.traffic.supernode_rate + view.traffic.peers_rate);
  for (const name of ["origin", "supernode", "peers"]) same(name, byId(`rate-${name}`), view.traffic[`${name}_rate`]);
  same("peers", byId("peers-ready"), view.peers.filter((peer) => peer.ready === "True").length);
  const rows = [...document.querySelectorAll("#view tbody tr")];
  if (rows.length !== view.tasks.length) wrong.push(`${rows.length} rows instead of ${view.tasks.length}`);
  for (const [index, task] of view.tasks.entries()) {
    const cell = (name) => rows[index]?.querySelector(`[data-cell="${name}"]`);
    if (rows[index]?.querySelector(".name").textContent !== task.name) wrong.push(`row ${index} is not ${task.name}`);
    same(`${task.name} progress`, cell("progress"), task.progress);
    same(`${task.name} nodes`, cell("nodes"), `${task.nodes.ready}/${task.nodes.desired}`);
    same(`${task.name} rate`, cell("rate"), task.traffic.supernode_rate + task.traffic.peers_rate);
    same(`${task.name} eta`, cell("eta"), task.eta);
    for (const name of ["origin", "supernode", "peers"]) same(`${task.name} ${name}`, cell(name), task.traffic[name]);
  }
  return wrong;
})()
"""
"""The numbers of the page that differ from the answer that it got last."""


async def equal(page: BrowserPage) -> None:
    """The page draws an answer a moment after it came. Then all numbers are those of the answer."""
    await page.until(f"{EQUAL}.length === 0", 5)


async def test_progress_moves_and_all_numbers_are_those_of_the_api(lab: ConsoleLab, page: BrowserPage) -> None:
    """The rates on the page, added over the time, are the bytes that were moved."""
    lab.stage.origin.serve("/large", Generated(SIZE, seed=3))
    await lab.stage.apply(LARGE, lab.stage.origin.url("/large"))
    look = """[Number(document.querySelector('#view [data-cell="progress"]')?.dataset.value || 0),
      Number(document.querySelector('#rate-now').dataset.value)]"""
    seen, moved, rate, since = [0.0], 0.0, 0.0, time.monotonic()
    while not lab.stage.is_ready(LARGE) or rate:
        await equal(page)
        progress, rate = await page.run(look)
        seen.append(progress)
        await asyncio.sleep(0.25)
        now = time.monotonic()
        moved, since = moved + rate * (now - since), now
    steps = sorted({value for value in seen if 0 < value < 1})
    assert len(steps) >= 3, seen
    assert seen == sorted(seen), "progress never goes back"
    assert moved == pytest.approx(3 * SIZE, rel=0.1), "test_cli_console reads all samples, and so has less tolerance"
    view = await lab.console()
    [task] = view.tasks
    assert (3, 3, 3 * SIZE) == (task.nodes.ready, task.nodes.desired, task.traffic.supernode + task.traffic.peers)
    assert 3 * SIZE - task.traffic.origin == view.saved
    words = await page.run("document.querySelector('#view [role=progressbar]').getAttribute('aria-valuetext')")
    assert "100\u00a0% of 3 \u00d7 20.0\u00a0MiB" == words
    assert f"Task default/{LARGE} is ready." == await page.run("document.querySelector('#live').textContent")


SWARM_EQUAL = """
(() => {
  const edges = window.answers["/api/v1/console"].edges;
  const rows = [...document.querySelectorAll("#view tbody tr")].map((row) => [...row.children]);
  const drawn = rows.map(([from, to, , rate]) => `${from.textContent} ${to.textContent} ${rate.dataset.value}`);
  const expected = edges.map((edge) => `${edge.provider} ${edge.node} ${edge.rate}`);
  const arrows = [...document.querySelectorAll(".edge:not(.origin)")].length;
  return edges.length >= 3 && arrows === edges.length && expected.every((edge) => drawn.includes(edge));
})()
"""
"""True if there are flows, and if the table and the graph show all of them."""

PEERS_EQUAL = """
(() => {
  const peers = window.answers["/api/v1/console"].peers;
  const value = (row, cell) => row?.querySelector(`[data-cell="${cell}"]`).dataset.value;
  return peers.length && peers.every((peer) => {
    const rows = [...document.querySelectorAll("#view tbody tr")];
    const row = rows.find((each) => each.querySelector(".name").textContent === peer.name);
    const zone = row?.closest("section").querySelector("h2").textContent;
    return zone?.includes(peer.zone)
      && value(row, "in") === String(peer.rate_in) && value(row, "out") === String(peer.rate_out)
      && value(row, "cache") === String(peer.cache_bytes) && value(row, "tasks") === String(peer.tasks);
  });
})()
"""


async def test_the_swarm_and_the_peers_are_those_of_the_api(lab: ConsoleLab, page: BrowserPage) -> None:
    lab.stage.origin.serve("/flows", Generated(8 * MIB, seed=5))
    await page.run("location.hash = '#/swarm'")
    await lab.stage.apply("flows", lab.stage.origin.url("/flows"))
    await page.until(SWARM_EQUAL.strip())
    await page.run("location.hash = '#/peers'")
    await page.until(PEERS_EQUAL.strip())
    await lab.stage.ready("flows")
    await page.run("location.hash = '#/'")


async def test_a_task_that_fails_shows_its_cause_and_the_next_step(lab: ConsoleLab, page: BrowserPage) -> None:
    lab.stage.origin.serve("/missing", Generated(MIB), always=Behaviour(status=404))
    await lab.stage.apply("missing", lab.stage.origin.url("/missing"))
    await page.until(
        "[...document.querySelectorAll('#view tbody tr')].some((row) => row.innerText.includes('SourceNotFound'))"
    )
    await page.run("location.hash = '#/tasks/default/missing'")
    await page.until("document.querySelector('.cause[data-reason=SourceNotFound]')")
    detail = await lab.task("missing")
    text = await page.run("document.querySelector('#view').innerText")
    assert detail.causes[0].action
    for cause in detail.causes:
        for part in (cause.reason, cause.message, cause.action):
            assert part in text
    for moment in detail.timeline:
        assert moment.reason in text
    await page.run("location.hash = '#/'")


async def test_an_image_shows_its_cause_too(lab: ConsoleLab, page: BrowserPage) -> None:
    body = {
        "apiVersion": "pantala.dev/v1alpha1", "kind": "ImagePrefetch", "metadata": {"name": "images"},
        "spec": {"images": [{"image": "127.0.0.1:1/none:1"}]},
    }  # fmt: skip
    await lab.stage.ask("POST", "/apis/pantala.dev/v1alpha1/namespaces/default/imageprefetches", body)
    row = "[...document.querySelectorAll('#view tbody tr')].find((row) => row.innerText.includes('127.0.0.1:1/none:1'))"
    await page.until(f"{row}?.dataset.mood === 'late'")
    await page.run(f"{row}.querySelector('a').click()")
    await page.until("document.querySelector('.cause')")
    detail = await lab.images("images")
    text = await page.run("document.querySelector('#view').innerText")
    assert detail.causes
    for cause in detail.causes:
        for part in (cause.reason, cause.message, cause.action):
            assert part in text
    await page.run("location.hash = '#/'")


async def test_a_frozen_node_is_named_with_its_reason(lab: ConsoleLab, page: BrowserPage) -> None:
    frozen = lab.stage.processes["node-2"].pid
    lab.stage.origin.serve("/frozen", Generated(MIB, seed=4))
    os.kill(frozen, signal.SIGSTOP)
    try:
        began = time.monotonic()
        await lab.stage.apply("frozen", lab.stage.origin.url("/frozen"))
        await page.run("location.hash = '#/tasks/default/frozen'")
        await page.until("document.querySelector('tr[data-mood=late] .name')?.textContent === 'node-2'", 20)
        assert time.monotonic() - began < 15
        text = await page.run("document.querySelector('#view').innerText")
        assert "NodeSilent" in text
        assert Reason.NODE_SILENT.action in text
    finally:
        os.kill(frozen, signal.SIGCONT)
    await page.until("document.querySelector('#fact-nodes').dataset.value === '3'", 30)
    assert [] == await page.run("[...document.querySelectorAll('.cause')].map((each) => each.dataset.reason)")
    await page.run("location.hash = '#/'")


async def test_text_can_be_read_in_light_and_dark(lab: ConsoleLab, page: BrowserPage) -> None:
    for theme in ("light", "dark"):
        await page.prefer(theme)
        for route in ("#/", "#/swarm", "#/peers", f"#/tasks/default/{LARGE}", "#/tasks/default/missing"):
            await page.run(f"location.hash = {json.dumps(route)}")
            await page.until(
                "document.querySelector('#view').innerText.length > 80 && !document.querySelector('#missing')"
            )
            found = await page.run(CONTRAST)
            assert found["checked"] > 30
            assert [] == found["found"], f"{theme} {route}"
    await page.prefer("light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = await page.run(ground)
    await page.run("document.querySelector('#theme input[value=dark]').click()")
    assert light != await page.run(ground)
    assert "dark" == await page.run("localStorage.getItem('pantala-theme')")
    await page.run("document.querySelector('#theme input[value=auto]').click(); location.hash = '#/'")


FOCUSABLE = """
[...document.querySelectorAll("a[href], button, select, input, summary, [tabindex='0']")]
  .filter((each) => each.checkVisibility() && !(each.type === "radio" && !each.checked) && !each.disabled)
"""
REACHED = """
(() => {
  const focused = document.activeElement;
  const box = focused.getBoundingClientRect();
  const style = getComputedStyle(focused.type === "radio" ? focused.closest("fieldset") : focused);
  const marked = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
  return [%s.indexOf(focused), marked, focused === document.body];
})()
""" % FOCUSABLE.strip()  # noqa: UP031 - the script has braces


async def test_the_keyboard_reaches_everything(page: BrowserPage) -> None:
    for route in ("#/", "#/swarm", "#/peers", "#/tasks/default/missing"):
        await page.run(f"location.hash = {json.dumps(route)}")
        await page.until("document.querySelector('#view').innerText.length > 80 && !document.querySelector('#missing')")
        await page.run("document.querySelector('.skip').focus()")
        wanted = await page.run(f"{FOCUSABLE.strip()}.length")
        reached = set()
        for step in range(wanted + 4):
            index, marked, body = await page.run(REACHED)
            if body:
                break
            reached.add(index)
            # A browser marks the focus only after a key.
            assert marked or not step, (
                f"{route}: no outline at {await page.run('document.activeElement.outerHTML.slice(0, 120)')}"
            )
            await page.press("Tab")
        assert set(range(wanted)) <= reached, f"{route}: {set(range(wanted)) - reached} are not reached"
    await page.run("location.hash = '#/'")
    await page.until("document.querySelector('#view a.name')")
    await page.run("document.querySelector('#view a.name').focus()")
    await page.press("Enter")
    await page.until("location.hash.includes('/default/') && document.activeElement.id === 'main'")
    await page.run("location.hash = '#/'")


async def test_no_name_is_cut_and_a_narrow_window_does_not_scroll_sideways(page: BrowserPage) -> None:
    cut = """[...document.querySelectorAll('.name')].filter((each) => each.checkVisibility()
      && (each.scrollWidth > each.clientWidth + 1 && getComputedStyle(each).display !== 'inline'
      || getComputedStyle(each).textOverflow === 'ellipsis')).map((each) => each.textContent)"""
    for width in (1440, 760, 360):
        await page.resize(width, 900)
        for route in ("#/", "#/peers", f"#/tasks/default/{LARGE}"):
            await page.run(f"location.hash = {json.dumps(route)}")
            await page.until("document.querySelector('#view .name')")
            assert [] == await page.run(cut)
            assert width >= await page.run("document.documentElement.scrollWidth"), f"{route} at {width}"
    await page.resize(1440, 900)
    await page.run("location.hash = '#/'")


async def test_screen_readers_and_reduced_motion(page: BrowserPage) -> None:
    named = "'button, select, input, [role=progressbar], [role=region], svg[role=img]'"
    nameless = f"""[...document.querySelectorAll({named})].filter((each) => each.checkVisibility())
      .filter((each) => !(each.ariaLabel || each.textContent.trim() || each.labels?.[0]?.textContent.trim()))
      .map((each) => each.outerHTML.slice(0, 100))"""
    assert [] == await page.run(nameless)
    assert "polite" == await page.run("document.querySelector('#live').getAttribute('aria-live')")
    await page.prefer("light", motion="reduce")
    assert "none" == await page.run("getComputedStyle(document.querySelector('.dot')).animationName")
    await page.prefer("light")


async def test_an_image_shows_its_progress_and_how_often_it_left_the_registry(
    lab: ConsoleLab, page: BrowserPage, tmp_path: Path
) -> None:
    row = """(() => {
      const row = [...document.querySelectorAll("#view tbody tr")]
        .find((each) => each.querySelector(".name").textContent === "image");
      return ["progress", "origin", "supernode", "peers"]
        .map((name) => Number(row?.querySelector(`[data-cell="${name}"]`).dataset.value || 0));
    })()"""
    seen = [[0.0, 0, 0, 0]]
    with Registry(tmp_path / "registry") as registry:
        image = build(tmp_path / "image", [Layer(12 * MIB, seed=1), Layer(20 * MIB, seed=2)])
        push(image, registry.host, "library/model", "1")
        size = sum(image.blobs.values())
        spec = {"source": {"image": f"{registry.host}/library/model:1"}, "depth": "Peer"}
        body = {"apiVersion": "pantala.dev/v1alpha1", "kind": "Task", "metadata": {"name": "image"}, "spec": spec}
        await lab.stage.ask("POST", "/apis/pantala.dev/v1alpha1/namespaces/default/tasks", body)
        deadline = time.monotonic() + 40
        while seen[-1][0] < 1 and time.monotonic() < deadline:
            await asyncio.sleep(0.25)
            seen.append(await page.run(row))
    assert seen == sorted(seen), "nothing goes back"
    assert len({progress for progress, *_ in seen if 0 < progress < 1}) >= 3, seen
    for progress, origin, supernode, peers in seen:
        assert origin <= size
        assert abs(progress - (supernode + peers) / size / 3) < 0.4, seen
    await page.until(f"{row}[1] === {size} && {row}[2] + {row}[3] === {3 * size}", 10)
    [line] = [each for each in (await lab.console()).tasks if each.name == "image"]
    assert "1.00x" == tables.origin(line)
    await lab.stage.until(
        lambda: lab.stage.status("image").get("bytes", {}).get("distributed") == 3 * size, "image", 15
    )
    assert size == lab.stage.status("image")["bytes"]["origin"]


async def test_a_lost_console_is_said_and_the_page_recovers(lab: ConsoleLab, page: BrowserPage) -> None:
    """The page keeps what it knows. The browser logs the refused requests, which are no errors of the page."""
    await page.call(
        "Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1
    )
    await page.until("document.querySelector('#link').dataset.state === 'lost' && document.querySelector('.notice')")
    assert LARGE in await page.run("document.querySelector('#view').innerText")
    await page.call(
        "Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1
    )
    await page.until("document.querySelector('#link').dataset.state === 'live'")
    page.errors[:] = [each for each in page.errors if "ERR_INTERNET_DISCONNECTED" not in each]
