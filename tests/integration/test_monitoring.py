"""A real Prometheus server scrapes the real processes, and a collector of OpenTelemetry receives their traces."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from charts import dashboard
from charts.metrics import FAMILIES
from pantala_process.metrics import BUILD, Family
from pantala_process.tracing.spans import context_of
from testbed import registry as testbed_registry
from testbed.image import Layer, build
from testbed.origin import Behaviour, Generated
from testbed.process import free_ports
from testbed.prometheus import Prometheus
from tests.support.eventually import eventually
from tests.support.product_stage import MIB, NODES, ROOT, ProductStage
from tests.support.prometheus_programs import needed
from tests.support.registry_images import of_amd64, registry_of
from tests.support.scripted_images import get
from tests.support.trace_collector import TraceCollector
from tests.support.web_server import web_server

pytestmark = [
    pytest.mark.controlplane,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(
        not testbed_registry.installed(), reason="docker-registry is not installed: apt-get install docker-registry"
    ),
]

SIZE = 5 * MIB
CONNECTED = 'sum(pantala_operator_conditions{kind="Peer", type="Ready", status="True"})'
_TRIES = 20
ALERTS = ROOT / "charts" / "pantala" / "files" / "alerts.yaml"
PANELS = [panel for panels in dashboard.ROWS.values() for panel in panels]


class Monitored:
    """The product, Prometheus with the alerts, and a collector of traces."""

    def __init__(
        self, stage: ProductStage, prometheus: Prometheus, collector: TraceCollector, addresses: dict[str, str]
    ) -> None:
        self.stage = stage
        self.prometheus = prometheus
        self.collector = collector
        self.addresses = addresses
        """The health port of each process."""

    def series(self, query: str) -> int:
        text = query.replace("$__rate_interval", "10s").replace("$__range", "1m")
        return len(self.prometheus.query(text))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def collector() -> AsyncIterator[TraceCollector]:
    """A collector that the environment names, for this process and its children."""
    found = TraceCollector()
    with pytest.MonkeyPatch.context() as environment:
        async with web_server(web.post("/v1/traces", found.take)) as port:
            environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
            environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
            yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def product(collector: TraceCollector, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Monitored]:
    """A Task that is ready, one whose file does not exist, and an image that two nodes have read from their mirrors."""
    needed("prometheus")
    folder = tmp_path_factory.mktemp("monitoring")
    image = build(folder / "image", [Layer(2 * MIB, seed=77)])
    health, *mirrors = free_ports(1 + len(NODES))
    with registry_of(image, folder / "registry") as registry:
        async with ProductStage(folder / "stage") as stage:
            stage.supernode("--metrics-open", "--health-listen", f"127.0.0.1:{health}", "--registries", registry.url)
            stage.operator()
            for name, port in zip(NODES, mirrors, strict=True):
                stage.peer(name, "--mirror-listen", f"127.0.0.1:{port}", "--runtime-socket", "none")
            addresses = {"supernode": f"127.0.0.1:{health}"}
            addresses |= {name: stage.health(name) for name in ("operator", *NODES)}
            jobs = {"supernode": [addresses["supernode"]], "operator": [addresses["operator"]]}
            with Prometheus(folder / "prometheus", jobs | {"peer": [addresses[name] for name in NODES]}, ALERTS) as it:
                await eventually(partial(it.query, f"{CONNECTED} == {len(NODES)}"), within=30, every=0.2)
                stage.origin.serve("/missing", Generated(1, seed=1), always=Behaviour(status=404))
                stage.origin.serve("/good", Generated(SIZE, seed=78))
                await stage.apply("good", stage.origin.url("/good"))
                await stage.apply("missing", stage.origin.url("/missing"))
                await stage.ready("good")
                for port in mirrors[:2]:
                    await _pull(port, registry.host, image.digest, of_amd64(image))
                absent = f"/v2/team/none/manifests/sha256:{'0' * 64}?ns={registry.host}"
                assert 404 == (await get(mirrors[0], absent)).status
                yield Monitored(stage, it, collector, addresses)


async def _pull(port: int, host: str, manifest: str, blobs: dict[str, int]) -> None:
    for path in (f"manifests/{manifest}", *(f"blobs/{digest}" for digest in blobs)):
        for _ in range(_TRIES):  # on a busy machine, the mirror may be late, and then refuses for half a minute
            reply = await get(port, f"/v2/team/app/{path}?ns={host}")
            if reply.status == 200:
                break
            await asyncio.sleep(2)
        assert 200 == reply.status


async def test_every_target_is_scraped(product: Monitored) -> None:
    await eventually(
        lambda: dict.fromkeys(product.addresses.values(), "") == product.prometheus.targets(),
        what=lambda: str(product.prometheus.targets()),
    )


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
async def test_each_query_of_the_dashboard_returns_data(product: Monitored, panel: dashboard.Panel) -> None:
    for query in panel.queries:
        await eventually(partial(product.series, query.text), within=20, every=0.3, what=query.text)


async def test_the_figures_are_those_of_the_product(product: Monitored) -> None:
    ask = product.prometheus.query
    origin = "sum(pantala_origin_bytes_total) >= 7e6"
    hits = 'sum(pantala_peer_mirror_requests_total{result="hit"}) >= 6'
    for query in (
        'pantala_operator_conditions{kind="Task", type="Ready", status="True", reason="Distributed"} == 1',
        f"{CONNECTED} == 3",
        'sum by (reason) (pantala_fetch_failures_total{reason="SourceNotFound"}) >= 1',
        "sum(pantala_peer_received_bytes_total) >= 15e6",
        'pantala_peer_mirror_requests_total{result="miss"} >= 1',
        "count(pantala_build_info) == 5",
        'pantala_volume_bytes{part="free"} > 0',
        'count(pantala_peer_disk_bytes{part="free"} > 0) == 3',
        origin,
        hits,
    ):
        await eventually(partial(ask, query), within=20, every=0.3, what=query)


async def test_the_alert_for_the_failing_task_is_pending_and_none_for_the_processes(product: Monitored) -> None:
    await eventually(lambda: "PantalaTasksFail" in product.prometheus.alerts(), within=20, every=0.3)
    down = {"PantalaOperatorDown", "PantalaSupernodeDown", "PantalaPeersNotReady", "PantalaFilesDamaged"}
    await eventually(lambda: not down & product.prometheus.alerts(), within=20, every=0.3)


@pytest.mark.parametrize("process", ["operator", "supernode", "peer"])
async def test_each_process_serves_the_families_of_the_reference_page(product: Monitored, process: str) -> None:
    """Names, types, labels and the values of labels are those that the process declares."""
    await test_every_target_is_scraped(product)
    address = product.addresses[NODES[0] if process == "peer" else process]
    async with aiohttp.ClientSession() as session, session.get(f"http://{address}/metrics") as answer:
        text = await answer.text()
    families = {each.name: each for each in (BUILD, *FAMILIES[process])}
    found = dict(_families(text))
    assert families.keys() == found.keys()
    for name, (kind, samples) in found.items():
        declared: Family = families[name]
        assert (name, declared.type) == (name, kind)
        for labels in samples:
            assert declared.labels.keys() == labels.keys() - {"le"}, name
            for label, values in declared.labels.items():
                assert labels[label] in values, (name, label)


def _families(text: str) -> Iterator[tuple[str, tuple[str, list[dict[str, str]]]]]:
    for each in text_string_to_metric_families(text):
        if each.name.startswith("pantala_") and not each.name.endswith("_created"):
            name = f"{each.name}_total" if each.type == "counter" else each.name
            yield name, (each.type, [sample.labels for sample in each.samples])


async def test_a_task_is_one_trace_across_all_processes(product: Monitored) -> None:
    collector, stage = product.collector, product.stage
    await eventually(
        lambda: len(collector.of("default/good")) == 3 + 2 * len(NODES),
        what=lambda: "\n".join(map(str, collector.spans)),
    )
    spans = collector.of("default/good")
    names = sorted((each.service, each.name) for each in spans)
    nodes = [("pantala-peer", "distribute")] * 3 + [("pantala-peer", "publish")] * 3
    assert [("pantala-operator", "plan"), ("pantala-operator", "task"), *nodes, ("pantala-supernode", "fetch")] == names
    [first] = [each for each in spans if each.name == "task"]
    assert ("", 3) == (first.parent, first.attributes["pantala.nodes"])
    for each in spans:
        assert each is first or first.span == each.parent
        assert first.began <= each.began <= each.ended <= first.ended, each
        assert "" == each.failed
    task = stage.tasks["good"]["metadata"]
    assert context_of(task["uid"], f"{task['generation']}/") == f"00-{first.trace}-{first.span}-01"
    distributed = [each.attributes for each in spans if each.name == "distribute"]
    assert set(NODES) == {each["pantala.node"] for each in distributed}
    received = [each[f"pantala.bytes_from_{source}"] for each in distributed for source in ("supernode", "peers")]
    assert 3 * SIZE == sum(map(int, received))
    [fetch] = [each for each in spans if each.name == "fetch"]
    assert SIZE == fetch.attributes["pantala.origin_bytes"]


async def test_the_trace_of_a_task_that_fails_names_the_reason(product: Monitored) -> None:
    """Its first span ends when the Task is deleted."""
    await product.stage.says("missing", "SourceNotFound")
    await product.stage.delete("missing")
    await eventually(lambda: len(product.collector.of("default/missing")) >= 3)
    failed = {each.name: each.failed for each in product.collector.of("default/missing")}
    assert {"plan": "", "fetch": "SourceNotFound", "task": "SourceNotFound"} == failed
