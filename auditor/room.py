"""Whether what an audit asks fits into a model's context: known before the first answer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from alignmerge.errors import UsageError

if TYPE_CHECKING:
    from alignmerge.auditor.ask import Asking
    from alignmerge.auditor.engines.prompts import Encoder


def lengths(one: "Asking", encoder: "Encoder") -> list[tuple[int, int]]:
    """Tokens of each item's prompt in its template, and the most that its answer may have."""
    prompts = [len(ids) for ids in encoder.encode([item.prompt for item in one.items])]
    if one.suite.kind == "likelihood":
        answers = [max(len(encoder.text(choice)) for choice in item.choices) for item in one.items]
    else:
        answers = [one.sampling.max_new_tokens] * len(one.items)
    return list(zip(prompts, answers, strict=True))


def check_room(asking: "Sequence[Asking]", encoder: "Encoder", context: int | None) -> int:
    """The most tokens that a prompt and its answer take.

    Raises:
        UsageError: more than `context` (None: nobody tells how many are too many).
    """
    most = 0
    for one in asking:
        for item, (prompt, answer) in zip(one.items, lengths(one, encoder), strict=True):
            most = max(most, prompt + answer)
            if context is not None and most > context:
                raise UsageError(
                    f"suite {one.suite.name!r}, item {item.id!r}: {prompt} tokens and {answer} for the answer exceed "
                    f"the model's context of {context}; leave the item out, or ask for shorter answers"
                )
    return most
