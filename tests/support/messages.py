"""One example of each message between processes."""

import msgspec

from pantala_protocol.images import (
    Depth,
    ImageBlob,
    NodeOrder,
    NodeOrders,
    PullOrder,
    PullPhase,
    PullState,
    RuntimeState,
    WantedImage,
)
from pantala_protocol.registry import ManifestAnswer, Resolve, Resolved
from pantala_protocol.statement import (
    CDNStatus,
    Changes,
    Failure,
    Member,
    Membership,
    PeerReport,
    Statement,
    StatementReceipt,
    TaskReport,
    WantedTask,
)
from pantala_protocol.sync import (
    Assignment,
    Delivery,
    DeliveryState,
    DeliveryStatus,
    HeldPieces,
    PieceFailure,
    PieceWork,
    SyncAnswer,
    SyncRequest,
    WantedBlob,
)
from pantala_supernode.replicas.client import SourceRequest
from pantala_supernode.replicas.decision import CopyReport, Stage

DIGEST = "sha256:" + "a" * 64
TASK = "1" * 64
PULL = PullState(PullPhase.READY, 7, "run", 2, 3, "NotFound", "no such image", (1, 2))
ORDER = PullOrder("run", 2, 60)
BLOB = ImageBlob(DIGEST, 9)
MEMBERS = Membership(3, (Member("a", "http://a", leaving=True),))
STATE = RuntimeState("containerd", "2", True, "fine", True, 5, {DIGEST: True})
FAILURE = Failure("NotFound", "no such file", final=True, peer="n2")

MESSAGES: dict[str, msgspec.Struct] = {
    "request": SyncRequest(
        "n1",
        "boot",
        7,
        inventory={TASK: HeldPieces("g", "0-3")},
        done={TASK: HeldPieces("g", "4")},
        failures=(PieceFailure(TASK, 3, "n2", "corrupt"),),
        deliveries={
            "uid": DeliveryState(DeliveryStatus.PUBLISHED, path="p"),
            "other": DeliveryState(DeliveryStatus.FAILED, "PathConflict", "taken", "q"),
            "third": None,
        },
        wants={TASK: WantedBlob("r", "a", DIGEST, 5, 1)},
        pulls={"ns/a": PULL, "ns/b": PullState(PullPhase.PULLING, 1)},
        runtime=STATE,
    ),
    "answer": SyncAnswer("boot", 7, key="00",
        assignments=(Assignment(TASK, "g", 1 << 20, 5, DIGEST, (Delivery("uid", "p"),), 3),),
        work=(PieceWork(TASK, "g", 0, 0, 5, "h", 1, "t", content=b"hello", digest="01", sha256="00"),),
        membership=MEMBERS,
        images=NodeOrders(5, (NodeOrder("ns/a", "r/a@" + DIGEST, ORDER, Depth.PEER, True, (BLOB,)),), (DIGEST,))),
    "statement": Statement(
        5,
        (WantedTask("uid", "ns/a", TASK, "http://o/f", {"A": "b"}, peers=("n1",)),),
        MEMBERS,
        "a",
        (WantedImage("ns/a", "r/a@" + DIGEST, Depth.PEER, True, blobs={"linux/amd64": (BLOB,)}, orders={"n1": ORDER}),),
    ),
    "changes": Changes("boot", 5, 3, True,
        (TaskReport("uid", TASK, cdn_status=CDNStatus.SUCCESS, length=5, failure=FAILURE, failures=(FAILURE,)),),
        ("old",), (PeerReport("n1", True, "10.0.0.1", 8, pulls={"ns/a": PULL}, runtime=STATE),)),
    "receipt": StatementReceipt("boot", 5),
    "copy": CopyReport(TASK, Stage.READING, generation="g", piece_size=1 << 20, length=5, cached="0", failure=FAILURE),
    "source": SourceRequest("http://o/f", {"A": "b"}),
    "resolve": Resolve("r/a:1", ("linux/amd64",)),
    "resolved": Resolved(DIGEST, {"linux/amd64": (BLOB,)}),
    "manifest": ManifestAnswer(DIGEST, "type", b"{}", ("Basic",)),
}  # fmt: skip
"""One example of each message. Each optional field with words of its own is set."""
