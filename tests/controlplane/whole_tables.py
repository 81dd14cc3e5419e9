"""Tasks and origins: those that fail with a reason, and those that succeed in the end."""

from dataclasses import dataclass, field
from typing import Any

from pantala_protocol.reasons import Reason
from testbed.origin import Behaviour, Body, Generated, sha256
from tests.support.product_stage import MIB

BODY = Generated(2 * MIB, seed=1)
NEW = Generated(2 * MIB, seed=2, modified=1_600_000_000)
LONGER = Generated(3 * MIB, seed=2, modified=1_600_000_000)
WRONG = {"digest": f"sha256:{'0' * 64}"}
RIGHT = {"digest": f"sha256:{sha256(BODY)}"}
CANARY = "canary-5b1e77"


@dataclass(frozen=True)
class Given:
    """One Task and how its origin behaves."""

    script: list[Behaviour] = field(default_factory=list)
    always: Behaviour | None = None
    spec: dict[str, Any] = field(default_factory=dict)
    body: Body = BODY
    url: str = ""
    """Instead of the origin's."""

    def path_of(self, name: str) -> str:
        """The path of the Task's file below the published files."""
        return str(self.spec.get("path", f"default/{name}")).removeprefix("/var/lib/pantala/files/")


def always(**how: Any) -> Given:
    return Given(always=Behaviour(**how))


def cut(then: Behaviour | None = None, **how: Any) -> Given:
    return Given([Behaviour(**{"reset_after": MIB, **how})], then)


BAD = {
    "not-found": (always(status=404), {Reason.SOURCE_NOT_FOUND}),
    "unauthorized": (always(status=401), {Reason.SOURCE_UNAUTHORIZED}),
    "forbidden": (always(status=403), {Reason.SOURCE_FORBIDDEN}),
    "host-unknown": (Given(url="http://no-such-host.invalid/x"), {Reason.SOURCE_HOST_UNKNOWN}),
    "refused": (Given(url="http://127.0.0.1:1/x"), {Reason.SOURCE_REFUSED}),
    "metadata": (Given(url="http://[::ffff:169.254.169.254]/x"), {Reason.SOURCE_DENIED}),
    "redirect-to-metadata": (
        always(status=302, headers={"Location": "http://169.254.169.254/x"}), {Reason.SOURCE_DENIED},
    ),
    "redirect-to-file": (always(status=302, headers={"Location": "file:///etc/passwd"}), {Reason.SOURCE_DENIED}),
    "redirect-loop": (always(status=302, headers={"Location": "redirect-loop"}), {Reason.SOURCE_UNUSABLE}),
    "wrong-sha256": (Given(spec=WRONG), {Reason.DIGEST_MISMATCH}),
    "wrong-sha512": (Given(spec={"digest": f"sha512:{'0' * 128}"}), {Reason.DIGEST_MISMATCH}),
    "always-cut": (always(reset_after=MIB, ranges=False), {Reason.LENGTH_MISMATCH}),
    "shorter": (always(announced=1000, ranges=False), {Reason.LENGTH_MISMATCH}),
    "longer": (always(announced=-1000), {Reason.LENGTH_MISMATCH}),
    "gzipped": (always(gzip=True), {Reason.SOURCE_UNUSABLE}),
    "endless-and-no-digest": (always(framing="close"), {Reason.SOURCE_UNUSABLE}),
    "absolute": (Given(spec={"path": "/etc/cron.d/x"}), {Reason.PATH_OUTSIDE_ROOT}),
    "of-another-namespace": (Given(spec={"path": "other/x"}), {Reason.PATH_OUTSIDE_NAMESPACE}),
    "through-a-link": (Given(spec={"path": "default/link/x"}), {Reason.PATH_OUTSIDE_ROOT}),
    "foreign-file": (Given(spec={"path": "default/foreign/x"}), {Reason.PATH_CONFLICT}),
    "file-as-directory": (Given(spec={"path": "default/foreign/x/y"}), {Reason.PATH_CONFLICT}),
    "rival": (Given(spec={"path": "default/taken"}), {Reason.PATH_CONFLICT}),
    "secret-missing": (Given(spec={"headersFrom": {"secretRef": {"name": "later"}}}), {Reason.SECRET_MISSING}),
    "secret-invalid": (Given(spec={"headersFrom": {"secretRef": {"name": "two-lines"}}}), {Reason.SECRET_INVALID}),
    "no-node": (Given(spec={"target": {"nodeSelector": {"late": "yes"}}}), {Reason.NO_NODE_MATCHES}),
}  # fmt: skip
"""Tasks whose file must not appear, and the reasons that they give."""
GOOD = {
    "owner": (Given(spec={"path": "default/taken"}), BODY),
    "server-errors": (Given([Behaviour(status=500)] * 3), BODY),
    "retry-after": (Given([Behaviour(status=503, headers={"Retry-After": "1"})]), BODY),
    "cut-once": (cut(reset_after=MIB + 5), BODY),
    "cut-and-no-ranges": (cut(Behaviour(ranges=False), ranges=False), BODY),
    "cut-again-and-again": (Given(always=Behaviour(reset_after=300 * 1024)), BODY),
    "chunked": (always(framing="chunked"), BODY),
    "chunked-and-cut": (cut(Behaviour(framing="chunked"), framing="chunked"), BODY),
    "endless": (Given(always=Behaviour(framing="close"), spec=RIGHT), BODY),
    "endless-and-cut": (
        Given([Behaviour(framing="close", close_after=MIB)], Behaviour(framing="close"), spec=RIGHT), BODY,
    ),
    "changed-etag": (cut(Behaviour(replace=NEW)), NEW),
    "changed-etag-longer": (cut(Behaviour(replace=LONGER)), LONGER),
    "changed-date": (cut(Behaviour(replace=NEW, validators="modified"), validators="modified"), NEW),
    "changed-date-longer": (cut(Behaviour(replace=LONGER, validators="modified"), validators="modified"), LONGER),
    "changed-unseen": (cut(Behaviour(replace=NEW, validators="none"), validators="none"), NEW),
    "changed-weak": (cut(Behaviour(replace=LONGER, validators="weak"), validators="weak"), LONGER),
    "empty": (Given(body=Generated(0)), Generated(0)),
    "empty-and-chunked": (Given(always=Behaviour(framing="chunked"), body=Generated(0)), Generated(0)),
    "no-content": (always(status=204), Generated(0)),
    "one-byte": (Given(body=Generated(1)), Generated(1)),
    "absolute-below-root": (Given(spec={"path": "/var/lib/pantala/files/default/below"}), BODY),
    "late-answer": (always(delay=3.0), BODY),
}  # fmt: skip
"""Tasks whose file is distributed in the end, and its content."""
NEVER_PUBLISHED = ("/etc", "other", "default/link", "default/foreign", "default/taken")
"""How the paths begin at which no size is checked."""
