"""Specs that the API server must refuse, each with the field and the message, and specs that it must accept."""

from typing import Any

from tests.support import names

Object = dict[str, Any]
Refused = tuple[Object, str]

URL = "http://origin.example/file"
SHA256 = "sha256:" + "a" * 64
SHA512 = "sha512:" + "b" * 128
NOW = "2026-01-01T00:00:00Z"


class Specs:
    """Builds specs of one kind from its least spec."""

    def __init__(self, **least: Any) -> None:
        self._least = least

    def __call__(self, **fields: Any) -> Object:
        return {**self._least, **fields}

    def refused(self, *rows: tuple[str, str, list[Any]]) -> list[Refused]:
        """Specs with each value at its dotted path. A message may begin with more of the path: ``[0]`` or ``.name``."""
        found = []
        for path, message, values in rows:
            separator = "" if message.startswith(("[", ".")) else ": "
            for value in values:
                for name in reversed(path.split(".")):
                    value = {name: value}
                found.append((self(**value), f"spec.{path}{separator}{message}"))
        return found


task = Specs(source={"url": URL})
prefetch = Specs(images=[{"image": "registry.example/a:1"}])
policy = Specs(cidrs=["10.0.0.0/8"])


def url(text: str) -> Object:
    return {"source": {"url": text}}


def image(reference: str, **more: Any) -> Object:
    return {"source": {"image": reference}, "depth": "Runtime", **more}


def images(*references: str, **more: Any) -> Object:
    return {"images": [{"image": reference} for reference in references], **more}


INVALID = "Invalid value"
UNSUPPORTED = "Unsupported value"
DIGEST = "Invalid value: must be sha256: with 64 or sha512: with 128"
SECRET_NAME = "Invalid value: must be a Secret's name"
EXISTS = "Invalid value: operator must be Exists when key is empty"

BAD_TASKS = task.refused(
    ("source", "Invalid value: set exactly one of url and image", [{}, {"url": URL, "image": "a"}]),
    ("source", "Invalid value: platform needs image", [{"url": URL, "platform": "linux/amd64"}]),
    ("source", ".platform: Invalid value: must be os/architecture", [{"image": "a", "platform": "amd64"}]),
    ("source.url", "Invalid value: must begin with http:// or https://", ["ftp://host/file", "file:///etc/passwd"]),
    ("source.url", "Invalid value: must be a URL with a host", ["http:///file", "http://[::1/file"]),
    ("source.url", "Invalid value: must not contain user info", ["http://user:secret@host/file", "http://token@host"]),
    ("source.url", "Invalid value: must not have a fragment", ["http://host/file#part"]),
    (
        "source.url",
        "Invalid value: must be ASCII without spaces",
        ["http://host/a b", "http://höst/file", "http://host/a\r\nb"],
    ),
    ("source.url", "Too long", ["http://host/" + "a" * 8181]),
    ("source.image", INVALID, [""]),
    ("source.image", "Invalid value: must not contain spaces", ["a b", "a\nb"]),
    ("source.image", "Too long", ["a" * 513]),
    ("headersFrom", ".secretRef: Required value", [{}]),
    ("headersFrom.secretRef", ".name: Required value", [{}]),
    ("headersFrom.secretRef.name", INVALID, [""]),
    ("headersFrom.secretRef.name", SECRET_NAME, ["../../other/secrets/x", "Login", "a_b", "a..b", "a\n"]),
    ("digest", DIGEST, ["md5:" + "a" * 32, "sha256:" + "A" * 64, "sha256:" + "a" * 63]),
    ("digest", DIGEST, ["sha512:" + "a" * 64, SHA256 + "\n", ""]),
    ("filterQueryParams", "[1]: Duplicate value", [["a", "a"]]),
    ("filterQueryParams", "[0]: Invalid value: must be a parameter's name", [["a=b"], ["a b"]]),
    ("filterQueryParams", "[0]: Invalid value", [[""]]),
    ("filterQueryParams", "Too many", [[str(number) for number in range(33)]]),
    ("depth", UNSUPPORTED, ["Node"]),
    ("depth", "Invalid value: depth Runtime needs source.image", ["Runtime"]),
    ("pullSecrets", "Forbidden: spec.pullSecrets needs source.image", [["a"]]),
    ("retention", "Forbidden: spec.retention needs depth Runtime", [{"pin": True}]),
    ("target", "Invalid value: set at most one of count and percentage", [{"count": 1, "percentage": 1}]),
    ("target.count", INVALID, [0]),
    ("target.percentage", INVALID, [0, 101]),
    ("target.names", INVALID, [[]]),
    ("target.names", "[1]: Duplicate value", [["a", "a"]]),
    ("target.nodeSelector.a", "Too long", ["b" * 64]),
    ("target.tolerations", f"[0]: {EXISTS}", [[{}], [{"key": "", "operator": "Equal"}]]),
    (
        "target.tolerations",
        "[0]: Invalid value: value must be empty when operator is Exists",
        [[{"key": "a", "operator": "Exists", "value": "b"}]],
    ),
    ("target.tolerations", f"[0].effect: {UNSUPPORTED}", [[{"key": "a", "effect": "Never"}]]),
    ("path", INVALID, [""]),
    ("path", "Invalid value: must name a file, not end with a slash", ["a/", "/"]),
    ("path", "Invalid value: must not contain an empty part", ["a//b", "//a"]),
    ("path", "Invalid value: must not contain . or ..", ["..", "../a", "a/../b", "a/./b", "a/.."]),
    ("path", "Invalid value: must not contain control characters", ["a\x00b", "a\nb"]),
    ("path", "Invalid value: must not contain characters that change the direction of text", ["a\u202eb"]),
    ("path", "Invalid value: must not have a part that begins with .pantala-", [".pantala-x", "a/.pantala-"]),
    ("path", "Invalid value: must not have a part of more than 255 bytes", ["a/" + "b" * 256, "ü" * 128]),
    ("path", "Too long", ["a/" * 512 + "b"]),
    ("path", INVALID, [path for path in names.REFUSED if len(path) <= 1024]),
    ("retry.limit", INVALID, [-1]),
    ("timeoutSecondsPerNode", INVALID, [0, 1 << 31]),
    ("activeDeadlineSeconds", INVALID, [0]),
    ("ttlSecondsAfterFinished", INVALID, [-1]),
    ("priority", INVALID, [1001, -1001]),
    ("suspend", INVALID, ["yes"]),
)
BAD_TASKS += [
    ({}, "spec.source: Required value"),
    (image("a", path="a"), "spec.path: Forbidden: spec.path needs depth Peer"),
    (task(depth="Supernode", path="a"), "spec.path: Forbidden: spec.path needs depth Peer"),
]

GOOD_TASKS = [
    url("https://host"),
    url("http://[2001:db8::1]:8080/a?b=c@d&e=f:g"),
    url("http://host/a@b:c"),
    url("http://host/" + "a" * 8180),
    {"source": {"image": "registry.example:5000/a/b:1@" + SHA256}},
    {"source": {"image": "a:1", "platform": "linux/arm64"}, "depth": "Runtime", "pullSecrets": ["a", "b"]},
    image("a@" + SHA256, retention={"pin": True}),
    task(headersFrom={"secretRef": {"name": "credentials"}}),
    task(digest=SHA256),
    task(digest=SHA512),
    task(filterQueryParams=["X-Amz-Signature", "a%20b"]),
    task(filterQueryParams=[]),
    task(depth="Supernode"),
    task(depth="Supernode", target={"count": 1}),
    task(depth="Peer", path="a"),
    task(target={}),
    task(target={"count": 1}),
    task(target={"percentage": 100}),
    task(target={"names": ["node1", "node2"], "nodeSelector": {"topology.kubernetes.io/zone": "a", "empty": ""}}),
    task(target={"tolerations": [{"operator": "Exists"}, {"key": "a"}]}),
    task(target={"tolerations": [{"key": "b", "value": "c", "effect": "NoExecute"}]}),
    task(target={"tolerations": [{"key": "a", "operator": "Exists", "value": ""}]}),
    task(path="models/v1..2/.hidden/...x"),
    task(path="/var/lib/pantala/files/a"),
    *(task(path=path) for path in names.ACCEPTED),
    task(retry={}),
    task(retry={"limit": 0}),
    task(timeoutSecondsPerNode=1),
    task(activeDeadlineSeconds=1, ttlSecondsAfterFinished=0, priority=-1000, suspend=True),
]

CONTINUOUS = {"completionPolicy": "Continuous"}
NIGHTLY = {"cron": "30 2 * * *"}
REFERENCE = "spec.images[0].image: Invalid value: must be an image reference such as"

SHARE = "Invalid value: must be a number of at least 1, or 1% to 100%"
NOT_CHOSEN = "spec.startupTaint: Forbidden: startupTaint cannot be combined with target.count"
FOLLOWED = "Invalid value: set exactly one of workloadRef and namespaceSelector"
VALUES = "Invalid value: values must be set for In and NotIn"

BAD_PREFETCHES = prefetch.refused(
    ("images", INVALID, [[]]),
    ("images", "[0].platform: Invalid value: must be os/arch", [[{"image": "a", "platform": "amd64"}]]),
    ("from", FOLLOWED, [{}, {"workloadRef": {"kind": "Deployment", "name": "a"}, "namespaceSelector": {}}]),
    ("from.workloadRef", ".kind: Unsupported value", [{"kind": "Pod", "name": "a"}]),
    ("from.workloadRef", ".name: Required value", [{"kind": "Deployment"}]),
    ("from.namespaceSelector.matchExpressions", f"[0]: {VALUES}", [[{"key": "a", "operator": "In"}]]),
    ("pullSecrets", "[1]: Duplicate value", [["a", "a"]]),
    ("pullSecrets", "[0]: Invalid value", [[""]]),
    ("target", "Invalid value: set at most one of count and", [{"count": 1, "percentage": 1}]),
    ("target.podSelector.matchExpressions", f"[0]: {VALUES}", [[{"key": "a", "operator": "Exists", "values": ["b"]}]]),
    ("rollout.parallelism", f"{SHARE}; to pause, set spec.suspend", [0]),
    ("rollout.parallelism", SHARE, ["0%", "101%", "2", "1%\n"]),
    ("rollout.maxFailures", "Invalid value: must be a number of at least 0", [-1]),
    ("rollout.perNode", INVALID, [0]),
    ("rollout.waves", "[0]: Invalid value: set nodeSelector, nodes, or both", [[{}]]),
    ("rollout.waves", f"[0].nodes: {SHARE}", [[{"nodes": 0}]]),
    ("retry.limit", INVALID, [-1]),
    ("retry.backoffSeconds", INVALID, [0]),
    ("timeoutSecondsPerNode", INVALID, [9]),
    ("activeDeadlineSeconds", INVALID, [0]),
    ("schedule", ".cron: Required value", [{}]),
    ("schedule.cron", INVALID, ["30 2 * *"]),
    (
        "schedule.cron",
        "Invalid value: must have the form of a CronJob's schedule",
        ["0 30 2 * * *", "@every 10s", "@Hourly", "TZ=UTC 0 0 * * *", "0 0 L * *", "0 0 * * 5#2", "0 0 1 1 0\n"],
    ),
    ("schedule", ".timeZone: Invalid value: must be a name of", [{**NIGHTLY, "timeZone": "../etc"}]),
    ("startupTaint", "Forbidden: startupTaint needs completionPolicy Continuous", [{"key": "a"}]),
    ("retention.byteBudget", "Invalid value: must be a whole number", ["much", "0"]),
    ("completionPolicy", UNSUPPORTED, ["Always"]),
    ("updatePolicy", UNSUPPORTED, ["Never"]),
    ("mode", UNSUPPORTED, ["Dry"]),
)
BAD_PREFETCHES += [
    ({}, "spec: Invalid value: set images, from, or both"),
    (images("a", "a"), "spec.images[1]: Duplicate value"),
    (images(*(f"a:{number}" for number in range(65))), "spec.images: Too many"),
    (images(""), "spec.images[0].image: Invalid value"),
    *(
        (images(reference), REFERENCE)
        for reference in (
            *("a b", "https://registry.example/a", "registry.example/A:1", "a:"),
            *("a@sha256:abc", f"a@{SHA256}\n", "a//b", "a:" + "b" * 129),
        )
    ),
    (
        prefetch(ttlSecondsAfterFinished=1, **CONTINUOUS),
        "spec.ttlSecondsAfterFinished: Forbidden: ttlSecondsAfterFinished needs completionPolicy Once",
    ),
    (
        prefetch(ttlSecondsAfterFinished=1, schedule=NIGHTLY),
        "spec.ttlSecondsAfterFinished: Forbidden: ttlSecondsAfterFinished would delete the ImagePrefetch",
    ),
    (prefetch(startupTaint={"key": "a"}, target={"count": 1}, **CONTINUOUS), NOT_CHOSEN),
    (prefetch(startupTaint={"key": "a"}, target={"percentage": 1}, **CONTINUOUS), NOT_CHOSEN),
    (prefetch(startupTaint={"key": "a"}, target={"podSelector": {}}, **CONTINUOUS), NOT_CHOSEN),
    (
        prefetch(startupTaint={"key": "node.kubernetes.io/not-ready"}, **CONTINUOUS),
        "spec.startupTaint.key: Invalid value: must be a key of your own",
    ),
]

GOOD_PREFETCHES = [
    images("a"),
    images("nginx:1.27", "docker.io/library/nginx@" + SHA256, "localhost:5000/a/b_c/d--e.f:V1_2-3.4@" + SHA256),
    images("[2001:db8::1]:5000/a", "REGISTRY.example/a:latest"),
    {"images": [{"image": "a", "platform": "linux/arm/v7"}]},
    {"from": {"workloadRef": {"kind": "StatefulSet", "name": "a"}}},
    {"from": {"namespaceSelector": {}}},
    images("a", **{"from": {"namespaceSelector": {"matchLabels": {"team": "a"}}}}),
    prefetch(rollout={"parallelism": 3, "perNode": 2, "maxFailures": 0, "waves": [{"nodes": 1}, {"nodes": "10%"}]}),
    prefetch(rollout={"parallelism": "25%", "maxFailures": "0%", "waves": [{"nodeSelector": {"canary": "yes"}}]}),
    prefetch(retry={"limit": 0, "backoffSeconds": 1}, timeoutSecondsPerNode=10, activeDeadlineSeconds=1),
    prefetch(ttlSecondsAfterFinished=0, completionPolicy="Once"),
    *(prefetch(schedule={"cron": cron}) for cron in ("0 0 ? * *", "?/5 ? ? ? ?", "@hourly", "@weekly", " 0\t0 1 1 0 ")),
    prefetch(schedule={"cron": "*/15 8-18 * JAN-MAR mon-fri", "timeZone": "America/Argentina/Buenos_Aires"}),
    prefetch(
        startupTaint={"key": "example.com/images", "deadlineSeconds": 60}, target={"nodeSelector": {}}, **CONTINUOUS
    ),
    prefetch(retention={"pin": True, "byteBudget": "20Gi"}, updatePolicy="Follow", mode="Plan", suspend=True),
    prefetch(target={"names": ["node1"], "podSelector": {"matchLabels": {"app": "a"}}, "percentage": 100}),
    prefetch(target={"tolerations": [{"operator": "Exists"}], "count": 1}, pullSecrets=["a", "b"]),
]


def condition(kind: str, status: str, **values: object) -> Object:
    return {"type": kind, "status": status, "reason": "Why", "message": "", "lastTransitionTime": NOW, **values}


HOST = "Invalid value: must be a host name in lower case"
NETWORK = "Invalid value: must be a network in CIDR notation without host bits"
BAD_POLICIES: list[Refused] = [
    *policy.refused(
        ("hosts", f"[0]: {HOST}", [["*"], ["Files.corp"], ["10.0.0.1"], ["0x7f.1"], ["a b"], ["http://x"], ["a/b"]]),
        ("hosts", INVALID, [[]]),
        ("cidrs", f"[0]: {NETWORK}", [["10.0.0.1/8"], ["10.0.0.1"], ["corp"], ["fd00::1/8"]]),
        ("ports", "[0]: Invalid value", [[0], [65536]]),
        ("caBundle", "Forbidden: caBundle needs hosts", ["x"]),
        ("limits.maxBytes", INVALID, [0]),
    ),
    ({"ports": [443]}, "spec: Invalid value: set hosts, cidrs or both"),
]
GOOD_POLICIES = [
    policy(),
    policy(cidrs=["10.20.0.0/16", "fd00::/8", "192.168.1.1/32"], ports=[443, 8443], limits={"maxBytes": 1}),
    {"hosts": ["files.corp", "*.store.corp", "a_b.c-d.corp.", "localhost"], "caBundle": "x"},
]
TASK_STATUS = {
    "observedGeneration": 1,
    "conditions": [
        condition(kind, "True", observedGeneration=1)
        for kind in ("Ready", "SourceResolved", "Cached", "Distributed", "Reconciling", "Stalled")
    ],
    "taskID": "c" * 64,
    "cdnStatus": "SUCCESS",
    "path": "default/columns",
    "contentLength": 2**33,
    "size": "8Gi",
    "digest": SHA256,
    "pieceSize": 4194304,
    "pieces": {"total": 2048, "cached": 2048},
    "peers": {"desired": 5, "ready": 2, "active": 1, "failed": 1, "waiting": 0, "late": 1},
    "summary": "2/3",
    "progress": "42%",
    "late": [{"node": "node4", "reason": "NodeSilent", "message": "silent", "since": NOW}],
    "bytes": {"origin": 2**33, "originSize": "8Gi", "fromSupernode": 2**34, "fromPeers": 0, "distributed": 2**34},
    "failures": [{"node": "node3", "reason": "NodeDiskFull", "message": "full"}],
    "startTime": NOW,
    "completionTime": NOW,
    "lastHandledRequest": "now",
}

PREFETCH_STATUS = {
    "observedGeneration": 1,
    "conditions": [
        condition(kind, "True", observedGeneration=1)
        for kind in ("Ready", "Resolved", "Reconciling", "Stalled", "Drifted", "EvictedByKubelet")
    ],
    "images": [
        {
            "image": "registry.example/a:1",
            "platform": "linux/amd64",
            "digest": SHA256,
            "latestDigest": SHA256,
            "resolvedTime": NOW,
            "task": "columns-0123456789",
            "bytes": 2**33,
            "desired": 3,
            "active": 1,
            "ready": 2,
            "failed": 0,
            "progress": "42%",
        }
    ],
    "nodes": {"desired": 4, "ready": 2, "active": 1, "failed": 0, "waiting": 0, "unavailable": 1, "late": 1},
    "summary": "2/3",
    "progress": "42%",
    "late": [{"node": "node4", "reason": "NodeSilent", "message": "silent", "since": NOW}],
    "size": "8Gi",
    "bytes": {"total": 2**33, "fetched": 2**34, "perSecond": 2**27},
    "failures": [
        {"node": "node3", "image": "registry.example/a:1", "reason": "NoSpace", "message": "full"},
        {"image": "registry.example/b:1", "reason": "NotFound", "message": "No node pulls it"},
    ],
    "plan": {
        "bytes": 2**34,
        "registryBytes": 2**33,
        "nodes": [{"node": "node1", "images": 1, "bytes": 2**33, "diskFree": 1, "diskFreeAfter": -(2**33)}],
        "leftOut": [{"node": "node9", "image": "a", "reason": "PlatformMissing", "message": "why"}],
        "nodesTotal": 1,
        "leftOutTotal": 1,
    },
    "startTime": NOW,
    "completionTime": NOW,
    "lastScheduleTime": NOW,
    "nextScheduleTime": NOW,
    "lastHandledRequest": "now",
}
