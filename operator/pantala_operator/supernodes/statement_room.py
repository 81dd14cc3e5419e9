"""Shares the bytes of a statement between namespaces. Pure.

A supernode refuses a statement that is too large as a whole. So the namespaces with the most bytes are cut until the
statement fits. Each namespace may use what the others leave, and a namespace within its equal share is never cut.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from pantala_operator.resources.status import Obstacle
from pantala_protocol.images import WantedImage
from pantala_protocol.reasons import Reason
from pantala_protocol.statement import MAX_STATEMENT, Statement, WantedTask

_SURVEY_SHARE: Final = 16
"""The survey gets at most one part in 16. It serves only the reports of mode ``Plan``."""
_COMMA: Final = 1
_SECRETS, _HEADERS, _NODES = "secrets", "headers", "nodes"
"""The tables to which packed entries refer."""

_Wanted = WantedTask | WantedImage | str
_Part = tuple[str, int]
"""A table and a position in it."""


@dataclass(frozen=True, slots=True)
class FittedStatement:
    """A statement that supernodes accept."""

    statement: Statement
    cut: Mapping[str, Obstacle] = field(default_factory=dict)
    """Why a task or an image is not in the statement as planned, by :attr:`WantedTask.uid` or ``WantedImage.key``."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One task, image or key of an unchanged image, and its bytes in the packed statement."""

    wanted: _Wanted
    size: int
    parts: Mapping[_Part, int]
    """The bytes of the shared parts to which the packed entry refers, by table and position."""
    bare: _Wanted
    """The same without credentials: copies stay, but a task fetches nothing. ``wanted`` itself if it has none."""
    bare_size: int

    @property
    def namespace(self) -> str:
        return (self.wanted.name if isinstance(self.wanted, WantedTask) else self.key).partition("/")[0]

    @property
    def key(self) -> str:
        match self.wanted:
            case WantedTask(uid=uid):
                return uid
            case WantedImage(key=key):
                return key
            case key:
                return key

    @property
    def bare_parts(self) -> Mapping[_Part, int]:
        return {part: size for part, size in self.parts.items() if part[0] == _NODES}


def fit(statement: Statement, pack: Callable[[Statement], Statement], most: int = MAX_STATEMENT) -> FittedStatement:
    """Pack a statement, and cut it to ``most`` bytes if necessary. Tasks and images must be sorted by age.

    Within a namespace, the youngest objects are cut first. They lose their credentials, and then their place. ``pack``
    returns the form in which the statement is sent, with the same tasks and images in the same order.
    """
    packed = pack(statement)
    bare = replace(packed, tasks=(), images=(), unchanged=())
    # One part at a time, because no other thread runs while a text is made.
    if _size(bare) + sum(map(_size, (*packed.tasks, *packed.images, *packed.unchanged))) <= most:
        return FittedStatement(packed)
    survey = _first(statement.survey, most // _SURVEY_SHARE)
    empty = replace(bare, survey=survey, node_sets=(), header_sets=(), pull_secrets=())
    entries: dict[str, list[_Entry]] = {}
    for each in _entries(statement, packed):
        entries.setdefault(each.namespace, []).append(each)
    needs = {namespace: _need(group) for namespace, group in entries.items()}
    share = equal_share(needs.values(), most - _size(empty))
    kept: dict[str, _Wanted] = {}
    cut: dict[str, Obstacle] = {}
    for namespace, group in entries.items():
        if needs[namespace] <= share:
            kept.update((each.key, each.wanted) for each in group)
        else:
            _cut(group, share, kept, cut)
    fitted = replace(
        statement,
        survey=survey,
        tasks=tuple(kept[task.uid] for task in statement.tasks if task.uid in kept),
        images=tuple(kept[image.key] for image in statement.images if image.key in kept),
        unchanged=tuple(key for key in statement.unchanged if key in kept),
    )
    return FittedStatement(pack(fitted), cut)


def equal_share(needs: Iterable[int], room: int) -> int:
    """The largest share that fits: each uses at most this share, and all together use at most ``room``."""
    ordered = sorted(needs)
    for rank, need in enumerate(ordered):
        share = max(room, 0) // (len(ordered) - rank)
        if need > share:
            return share
        room -= need
    return max(ordered, default=0)


def _cut(entries: Sequence[_Entry], room: int, kept: dict[str, _Wanted], cut: dict[str, Obstacle]) -> None:
    """Keep as much of one namespace as its share allows: first copies and orders, then credentials."""
    counted: set[_Part] = set()
    for each in entries:
        cost = each.bare_size + _new(each.bare_parts, counted)
        if cost <= room:
            room -= cost
            counted |= each.bare_parts.keys()
            kept[each.key] = each.bare
        else:
            cut[each.key] = _obstacle(each.namespace, "this object")
    for each in entries:
        if each.bare is each.wanted or each.key in cut:
            continue
        cost = each.size - each.bare_size + _new(each.parts, counted)
        if cost <= room:
            room -= cost
            counted |= each.parts.keys()
            kept[each.key] = each.wanted
        else:
            cut[each.key] = _obstacle(each.namespace, "the credentials of this object")


def _new(parts: Mapping[_Part, int], counted: Set[_Part]) -> int:
    return sum(size for part, size in parts.items() if part not in counted)


def _obstacle(namespace: str, loss: str) -> Obstacle:
    what = f"The namespace {namespace} needs more than its share of the message to the supernodes"
    return Obstacle.of(Reason.STATEMENT_FULL, f"{what}. The message lacks {loss}")


def _entries(statement: Statement, packed: Statement) -> Iterator[_Entry]:
    """All images and then all tasks, each with the bytes of its packed form."""
    for key in statement.unchanged:
        yield _Entry(key, _size(key), {}, key, _size(key))
    texts, headers, nodes = (
        [_size(each) for each in table] for table in (packed.pull_secrets, packed.header_sets, packed.node_sets)
    )
    for image, sent in zip(statement.images, packed.images, strict=True):
        secrets = {(_SECRETS, each): texts[each] for each in sent.secrets}
        bare = replace(sent, credentials=(), secrets=())
        lesser = replace(image, credentials=()) if image.credentials else image
        yield _Entry(image, _size(sent), secrets, lesser, _size(bare))
    for task, given in zip(statement.tasks, packed.tasks, strict=True):
        parts: dict[_Part, int] = {}
        if given.header_set is not None:
            parts[_HEADERS, given.header_set] = headers[given.header_set]
        if given.node_set is not None:
            parts[_NODES, given.node_set] = nodes[given.node_set]
        if task.headers:
            bare_size = _size(replace(given, headers={}, header_set=None, suspended=True))
            yield _Entry(task, _size(given), parts, replace(task, headers={}, suspended=True), bare_size)
        else:
            yield _Entry(task, _size(given), parts, task, _size(given))


def _need(entries: Iterable[_Entry]) -> int:
    total, parts = 0, dict[_Part, int]()
    for each in entries:
        total += each.size
        parts.update(each.parts)
    return total + sum(parts.values())


def _first(survey: tuple[str, ...], most: int) -> tuple[str, ...]:
    size = 0
    for position, digest in enumerate(survey):
        size += _size(digest)
        if size > most:
            return survey[:position]
    return survey


def _size(part: Any) -> int:
    """The bytes of a part of a statement, with the comma after it."""
    return len(msgspec.json.encode(part)) + _COMMA
