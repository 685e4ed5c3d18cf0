"""What an OpenAI-compatible server replied, read strictly: a reply that says nothing is a fault, never a text."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from alignmerge.auditor.template import clean
from alignmerge.terminal import printable

Kind = Literal["chat", "completion"]
Finish = Literal["stop", "length"]
Hide = Callable[[str], str]
SHOWN = 120
_OTHER_ENDS = {
    "content_filter": "the server's content filter cut the answer",
    "tool_calls": "the model called a tool instead of answering",
    "function_call": "the model called a function instead of answering",
}


class Unreadable(Exception):
    """The body is not a reply at all; another try may bring one."""


@dataclass(frozen=True)
class Usage:
    """Tokens the server counted."""

    prompt: int | None
    completion: int | None


@dataclass(frozen=True)
class Reply:
    """One answer, or the `fault` for which there is none that may be scored (`text` is then what came, or None).

    finish: "length" where the token limit cut the text. model: the server's own name of what answered. tries: requests
    it took. refusal: the text came in the reply's refusal field. choice: the whole first choice, for what only some
    servers send.
    """

    text: str | None
    finish: Finish | None
    model: str | None
    usage: Usage | None = None
    tries: int = 1
    fault: str | None = None
    refusal: bool = False
    choice: Mapping[str, Any] = field(default_factory=dict, repr=False)


def _as_it_is(text: str) -> str:
    return text


def read(data: bytes, kind: Kind, hide: Hide = _as_it_is) -> Reply:
    """The reply in the body of an HTTP 200.

    `hide` takes secrets out of what the server says besides the answer itself, before that is shortened.
    Lone surrogates become U+FFFD, so that text is stored and shown as it was read.

    Raises:
        Unreadable: not strict JSON (NaN and duplicate keys included), or not an object.
    """
    value = parse(data, hide)
    model = hide(value["model"]) if isinstance(value.get("model"), str) else None
    choices = value.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        said = value.get("error")
        shown = f": {printable(hide(clean(str(said))))[:SHOWN]}" if said else ""
        return Reply(None, None, model, fault=f"the reply has no choices{shown}")
    usage = _usage(value.get("usage"))
    text, refusal, fault = _text(choice, kind)
    finish, cut = _finish(choice.get("finish_reason"), hide)
    return Reply(
        None if text is None else clean(text),
        finish,
        model,
        usage,
        fault=fault or cut,
        refusal=refusal,
        choice=choice,
    )


def parse(data: bytes, hide: Hide = _as_it_is) -> dict[str, Any]:
    """The JSON object in `data`.

    Raises:
        Unreadable: see `read`.
    """
    try:
        value = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        head = printable(hide(data.decode("utf-8", "replace"))[:40])
        raise Unreadable(f"the reply is not JSON ({printable(clean(str(error)))[:SHOWN]}): {head!r}") from None
    if not isinstance(value, dict):
        raise Unreadable("the reply is not a JSON object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        raise ValueError("a key stands twice")
    return out


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


def _text(choice: Mapping[str, Any], kind: Kind) -> tuple[str | None, bool, str | None]:
    """The text, whether it is a refusal's, and what is wrong."""
    if kind == "completion":
        text = choice.get("text")
        return (text, False, None) if isinstance(text, str) else (None, False, "the reply has no text")
    message = choice.get("message")
    if not isinstance(message, dict):
        return None, False, "the reply has no message"
    content, refusal = message.get("content"), message.get("refusal")
    if isinstance(content, str):
        return content, False, None
    if content is None and isinstance(refusal, str) and refusal:
        return refusal, True, None
    what = "is null" if content is None else f"is a {type(content).__name__}, not a text"
    return None, False, f"the reply's content {what}"


def _finish(value: Any, hide: Hide) -> tuple[Finish | None, str | None]:
    if value == "stop" or value == "length":
        return value, None
    if isinstance(value, str) and value in _OTHER_ENDS:
        return None, _OTHER_ENDS[value]
    return None, f"the reply's finish_reason is {printable(hide(clean(str(value))))[:SHOWN]!r}: it may not be complete"


def _usage(value: Any) -> Usage | None:
    if not isinstance(value, dict):
        return None
    counts = [value.get(key) for key in ("prompt_tokens", "completion_tokens")]
    prompt, completion = (count if type(count) is int and count >= 0 else None for count in counts)
    return Usage(prompt, completion)
