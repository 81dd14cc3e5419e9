"""A message of a version that is one minor version newer: unknown words and fields degrade, and the rest holds."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from pantala_protocol.images import PullState
from pantala_protocol.rules.fields import UNKNOWN, WireWord
from tests.support.messages import MESSAGES


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], WireWord]]:
    """The paths of all words of enums in a message."""
    if isinstance(value, WireWord):
        yield path, value
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from places(getattr(value, name), (*path, name))
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, tuple):
        for number, inner in enumerate(value):
            yield from places(inner, (*path, number))


def replaced(value: Any, path: tuple[Any, ...], word: str) -> Any:
    """The JSON of a message with another word at ``path``. Omitted defaults are written."""
    if not path:
        return word
    inner = value.get(path[0]) if isinstance(value, dict) else value[path[0]]
    changed = replaced(inner, path[1:], word)
    if isinstance(value, dict):
        return {**value, path[0]: changed}
    return [*value[: path[0]], changed, *value[path[0] + 1 :]]


def with_unknown_fields(value: Any, kind: object) -> Any:
    """The JSON with one more member in each object that is a struct."""
    if isinstance(kind, msgspec.Struct):
        known = {
            name: with_unknown_fields(inner, getattr(kind, name))
            for name, inner in value.items()
            if hasattr(kind, name)
        }
        return {**known, "from_the_future": {"any": [1, None]}}
    if isinstance(kind, dict):
        return {key: with_unknown_fields(inner, kind[key]) for key, inner in value.items()}
    if isinstance(kind, tuple):
        return [with_unknown_fields(inner, each) for inner, each in zip(value, kind, strict=True)]
    return value


CASES = [(message, path, word) for message in MESSAGES.values() for path, word in places(message)]


@pytest.mark.parametrize(
    ("message", "path", "word"),
    CASES,
    ids=lambda part: ".".join(map(str, part)) if isinstance(part, tuple) else type(part).__name__,
)
def test_m9_an_unknown_word_degrades_and_the_rest_holds(
    message: msgspec.Struct, path: tuple[Any, ...], word: WireWord
) -> None:
    plain = msgspec.json.decode(msgspec.json.encode(message))
    taken = msgspec.json.decode(msgspec.json.encode(replaced(plain, path, "FromTheFuture")), type=type(message))
    wanted = msgspec.json.decode(msgspec.json.encode(replaced(plain, path, UNKNOWN)), type=type(message))
    assert wanted == taken
    words = dict(places(taken))
    assert type(word)(UNKNOWN) is words.pop(path)
    assert {each: value for each, value in places(message) if each != path} == words


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_m9_unknown_fields_are_ignored(message: msgspec.Struct) -> None:
    newer = with_unknown_fields(msgspec.json.decode(msgspec.json.encode(message)), message)
    assert message == msgspec.json.decode(msgspec.json.encode(newer), type=type(message))


def test_m9_each_enum_of_messages_has_a_case() -> None:
    assert set(WireWord.__subclasses__()) == {type(word) for _, _, word in CASES}
    assert all(UNKNOWN in {str(word) for word in kind} for kind in WireWord.__subclasses__())


def test_m9_a_wrong_type_is_not_an_unknown_word() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"phase":7,"since":1}', type=PullState)
