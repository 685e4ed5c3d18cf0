"""A reply either has a text that may be scored, or a fault; never both, never neither."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from alignmerge.auditor.wire.reading import Reply, Unreadable, Usage, read
from tests.chat_server import body

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = ("choices", "message", "content", "finish_reason", "text", "logprobs", "usage", "model", "refusal", "error")


def damaged(value: Any, where: list[str], new: Any) -> Any:
    """`value` with `new` at the first of the keys `where` that it has, at any depth."""
    if isinstance(value, dict):
        return {key: new if where and key == where[0] else damaged(inner, where, new) for key, inner in value.items()}
    return [damaged(inner, where, new) for inner in value] if isinstance(value, list) else value


def sound(found: Reply) -> bool:
    if found.fault is not None:
        return True
    return isinstance(found.text, str) and found.finish in ("stop", "length")


@given(JSON)
def test_any_json_is_a_sound_reply_or_unreadable(value: Any) -> None:
    for kind in ("chat", "completion"):
        try:
            found = read(json.dumps(value).encode(), kind)  # type: ignore[arg-type]
        except Unreadable:
            assert not isinstance(value, dict)
        else:
            assert found.fault is not None  # nothing random is an answer
            assert sound(found)


@given(st.sampled_from(KEYS), JSON)
def test_a_reply_with_one_damaged_place_is_sound(key: str, new: Any) -> None:
    whole = body("text", usage={"prompt_tokens": 1, "completion_tokens": 2})
    found = read(json.dumps(damaged(whole, [key], new)).encode(), "chat")
    assert sound(found)
    assert found.text != "None" or new == "None"


@given(st.binary(max_size=60))
def test_bytes_of_any_kind_never_break_the_reader(data: bytes) -> None:
    try:
        found = read(data, "chat")
    except Unreadable as error:
        said = str(error)
    else:
        said = found.fault or ""
    assert said
    assert said.isprintable()


@given(st.text())
def test_a_text_is_what_was_sent(text: str) -> None:
    found = read(json.dumps(body(text)).encode(), "chat")
    assert (found.text, found.finish, found.fault) == (text, "stop", None)


def test_usage() -> None:
    value = body("ab", usage={"prompt_tokens": 5, "completion_tokens": True})
    assert read(json.dumps(value).encode(), "chat").usage == Usage(5, None)
