"""From user text to token ids: the chat template around it, and never a special token inside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alignmerge.auditor.template import ChatTemplate, clean
from alignmerge.errors import UnsafeFormat

NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")


@dataclass(frozen=True)
class Encoder:
    """A tokenizer and the chat template its model was trained with."""

    tokenizer: Any
    template: ChatTemplate

    def encode(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of each prompt as one user turn, up to where the answer begins.

        Special tokens come from the template alone. A prompt that spells one is encoded in three pieces (template,
        text, template) so that its text stays text.

        Raises:
            UnsafeFormat: the template fails its limits, or hides the prompt from the model.
        """
        texts = self.template.render(prompts)
        specials = tuple(self.tokenizer.get_added_vocab())
        ids: list[list[int]] = []
        plain = [place for place, prompt in enumerate(prompts) if not any(token in clean(prompt) for token in specials)]
        whole = (
            self.tokenizer([texts[place] for place in plain], add_special_tokens=False)["input_ids"] if plain else []
        )
        by_place = dict(zip(plain, whole, strict=True))
        for place, prompt in enumerate(prompts):
            ids.append(list(by_place[place]) if place in by_place else self._pieces(texts[place], clean(prompt)))
        return ids

    def _pieces(self, text: str, prompt: str) -> list[int]:
        shown = prompt if prompt in text else prompt.strip()
        head, found, tail = text.partition(shown)
        if not found:
            raise UnsafeFormat("chat template: it changes the user's message, which holds a special token")
        return [*self._tokens(head), *self.text(shown), *self._tokens(tail)]

    def _tokens(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []

    def text(self, text: str) -> list[int]:
        """Token ids of `text` with every special token in it spelled out as characters."""
        return list(self.tokenizer(clean(text), add_special_tokens=False, split_special_tokens=True)["input_ids"])


def template_of(tokenizer: Any) -> ChatTemplate:
    """The tokenizer's own chat template ("default" where it has several).

    Raises:
        UnsafeFormat: it has none, so there is no agreed way to ask this model a question.
    """
    source = getattr(tokenizer, "chat_template", None)
    if isinstance(source, dict):
        source = source.get("default")
    if not isinstance(source, str) or not source:
        raise UnsafeFormat("tokenizer: it has no chat template; audit an instruct model or give the template to use")
    tokens = {name: str(getattr(tokenizer, name)) for name in NAMED_TOKENS if getattr(tokenizer, name, None)}
    return ChatTemplate(source, tokens)


def shared_prefix(rows: Sequence[list[int]]) -> int:
    """How many leading ids all rows share, at most one less than the shortest row (each keeps a last token to read)."""
    if not rows:
        return 0
    low, high = min(rows), max(rows)
    limit = min(len(row) for row in rows) - 1
    same = 0
    while same < limit and low[same] == high[same]:
        same += 1
    return same
