"""The Grafana dashboard in the chart, from a list of panels. Each panel answers one question.

The tests ask a real Prometheus server every query.
"""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_WIDTH = 24
"""The columns of a dashboard."""
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, slots=True)
class Query:
    """A query, and the legend of its series."""

    text: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel."""

    title: str
    question: str
    unit: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    width: int = 8


ROWS: dict[str, tuple[Panel, ...]] = {
    "Is all well?": (
        Panel(
            "Ready Tasks", "How many Tasks are ready?", "none",
            (Query('sum(pantala_operator_conditions{kind="Task", type="Ready", status="True"})'),), "stat", 6,
        ),
        Panel(
            "Late nodes", "How many nodes have trouble?", "none",
            (Query("sum(pantala_operator_late_nodes)"),), "stat", 6,
        ),
        Panel(
            "Connected peers", "How many nodes can get files?", "none",
            (Query('sum(pantala_operator_conditions{kind="Peer", type="Ready", status="True"})'),), "stat", 6,
        ),
        Panel(
            "Bytes that origins did not send", "What does Pantala save in the shown time?", "bytes",
            (Query(
                "sum(increase(pantala_served_bytes_total[$__range]))"
                " - sum(increase(pantala_origin_bytes_total[$__range]))"
            ),), "stat", 6,
        ),
        Panel(
            "Not ready, by reason", "Why are Tasks, ImagePrefetches and Peers not ready?", "none",
            (Query(
                'sum by (kind, reason) (pantala_operator_conditions{type="Ready", status!="True"})',
                "{{kind}} {{reason}}",
            ),), width=12,
        ),
        Panel(
            "Late nodes, by reason", "Which troubles keep nodes from their files and images?", "none",
            (Query("topk(8, sum by (reason) (pantala_operator_late_nodes))", "{{reason}}"),), width=12,
        ),
    ),
    "Where do the bytes come from?": (
        Panel(
            "Bytes by sender", "Do peers help each other, and how much do origins send?", "Bps",
            (
                Query("sum(rate(pantala_origin_bytes_total[$__rate_interval]))", "origin"),
                Query("sum by (by) (rate(pantala_served_bytes_total[$__rate_interval]))", "{{by}}"),
            ),
        ),
        Panel(
            "Bytes that nodes receive", "Where do the nodes' bytes come from?", "Bps",
            (Query("sum by (source) (rate(pantala_peer_received_bytes_total[$__rate_interval]))", "{{source}}"),),
        ),
        Panel(
            "Peers that give most", "Which nodes do the work for the others?", "Bps",
            (Query(
                "topk(5, sum by (instance) (rate(pantala_peer_sent_bytes_total[$__rate_interval])))", "{{instance}}",
            ),),
        ),
    ),
    "Images through the mirror": (
        Panel(
            "Requests by result", "Does the mirror serve containerd, and in time?", "reqps",
            (Query("sum by (result) (rate(pantala_peer_mirror_requests_total[$__rate_interval]))", "{{result}}"),),
        ),
        Panel(
            "Share of hits", "How many requests do registries not get?", "percentunit",
            (Query(
                'sum(rate(pantala_peer_mirror_requests_total{result="hit"}[$__rate_interval]))'
                " / sum(rate(pantala_peer_mirror_requests_total[$__rate_interval]))",
                "hits",
            ),),
        ),
        Panel(
            "Bytes to containerd", "How many bytes of images come from the mirror?", "Bps",
            (Query("sum(rate(pantala_peer_mirror_bytes_total[$__rate_interval]))", "mirror"),),
        ),
    ),
    "Origins and pieces": (
        Panel(
            "Tasks by state", "How many tasks wait, are fetched, are complete, or failed?", "none",
            (
                Query("sum by (cdn_status) (pantala_tasks)", "{{cdn_status}}"),
                Query("sum(pantala_queued_fetches)", "wait for a place"),
            ),
        ),
        Panel(
            "Failures at origins", "Why do files not arrive from their origins?", "none",
            (Query("sum by (reason) (increase(pantala_fetch_failures_total[$__rate_interval]))", "{{reason}}"),),
        ),
        Panel(
            "Pieces by result", "Do providers refuse, stall or send wrong bytes?", "ops",
            (Query("sum by (result) (rate(pantala_peer_downloads_total[$__rate_interval]))", "{{result}}"),),
        ),
    ),
    "Disks": (
        Panel(
            "Use of the volumes", "When must a supernode's volume grow?", "percentunit",
            (Query(
                '1 - pantala_volume_bytes{part="free"} / ignoring (part) pantala_volume_bytes{part="size"}',
                "{{instance}}",
            ),),
        ),
        Panel(
            "Nodes with the least room", "Which node runs out of disk?", "bytes",
            (Query(
                'bottomk(5, pantala_peer_disk_bytes{part="free"}'
                ' - ignoring (part) pantala_peer_disk_bytes{part="headroom"})',
                "{{instance}}",
            ),),
        ),
        Panel(
            "Removed copies", "Is the volume too small?", "none",
            (Query("sum by (cause) (increase(pantala_evictions_total[$__rate_interval]))", "{{cause}}"),),
        ),
    ),
    "The control plane": (
        Panel(
            "Delay of the status", "How late is what kubectl shows?", "s",
            (
                Query("max(pantala_operator_write_lag_seconds)", "overdue write"),
                Query("max(pantala_operator_report_age_seconds)", "age of reports"),
            ), width=6,
        ),
        Panel(
            "Peers that are silent", "Which nodes are cut off?", "s",
            (Query("topk(5, pantala_peer_silence_seconds)", "{{instance}}"),), width=6,
        ),
        Panel(
            "Memory", "Does a process need more memory?", "bytes",
            (Query(
                "max by (process)"
                " (process_resident_memory_bytes * on (job, instance) group_left (process) pantala_build_info)",
                "{{process}}",
            ),), width=6,
        ),
        Panel(
            "Versions", "Do all processes have the same version?", "none",
            (Query("count by (process, version) (pantala_build_info)", "{{process}} {{version}}"),), width=6,
        ),
    ),
}  # fmt: skip


def text() -> str:
    """The dashboard as JSON."""
    return json.dumps(_dashboard(), indent=1) + "\n"


def _dashboard() -> dict[str, Any]:
    return {
        "uid": "pantala",
        "title": "Pantala",
        "tags": ["pantala"],
        "schemaVersion": 39,
        "timezone": "browser",
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}]
        },
        "panels": list(_panels()),
    }


def _panels() -> Iterator[dict[str, Any]]:
    numbers, top = itertools.count(1), 0
    for title, panels in ROWS.items():
        yield {
            "id": next(numbers),
            "type": "row",
            "title": title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": top, "w": _WIDTH, "h": 1},
        }
        top, left, height = top + 1, 0, 0
        for panel in panels:
            if left + panel.width > _WIDTH:
                top, left, height = top + height, 0, 0
            height = max(height, 4 if panel.kind == "stat" else 8)
            position = {"x": left, "y": top, "w": panel.width, "h": 4 if panel.kind == "stat" else 8}
            yield _panel(next(numbers), panel, position)
            left += panel.width
        top += height


def _panel(number: int, panel: Panel, position: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.question,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "gridPos": position,
        "targets": [
            {"refId": "ABCD"[index], "datasource": _SOURCE, "expr": query.text, "legendFormat": query.legend}
            for index, query in enumerate(panel.queries)
        ],
    }
