"""The record of a file's content, beside its pieces."""

import msgspec

from pantala_protocol.geometry import check_size
from pantala_protocol.rules.fields import Count, PieceSize


def validator_of(etag: str, last_modified: str) -> str:
    """The value that identifies a content: its strong ETag, or its date if the origin sent no ETag.

    Empty beside a weak ETag: bytes may change while the tag, and perhaps the date, stays (RFC 9110, 13.1.5).
    """
    return "" if etag.startswith("W/") else etag or last_modified


class Meta(msgspec.Struct, frozen=True, omit_defaults=True):
    """The content of ``meta.json``. It has no URL and no credentials: the supernode gets them again after a restart."""

    task_id: str
    generation: str
    """The name of the content that the pieces belong to. New content of the origin gets another name."""
    piece_size: PieceSize
    length: Count | None = None
    etag: str = ""
    last_modified: str = ""
    digest: str = ""
    """``sha256:`` of the whole file. Set when all pieces are verified and durable. No data changes after that."""
    origin_bytes: int = 0
    """Bytes that were read from the origin until the whole file was verified."""
    confirmed: float = 0.0
    """When the origin last sent or confirmed this content, in seconds since the epoch."""
    lifetime: float | None = None
    """Seconds for which the origin declared this content fresh. ``None``: not declared."""
    checked: float = 0.0
    """When the whole file was last verified, in seconds since the epoch. 0: never."""
    claims: tuple[str, ...] = ()
    """UIDs of the Task resources that use this file. For them, the origin is not asked again after a restart."""
    origins: tuple[str, ...] = ()
    """For a blob of an image: the repositories that are evidence for its bytes, as in ``rules.rights``."""

    @property
    def validator(self) -> str:
        """See :func:`validator_of`."""
        return validator_of(self.etag, self.last_modified)

    def __post_init__(self) -> None:
        """Raises :class:`ValueError`."""
        check_size(self.piece_size, self.length or 0)
