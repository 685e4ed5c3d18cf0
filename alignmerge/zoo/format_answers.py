"""Short answers that keep the format constraints of the instructions suite: what the format expert is trained on."""

from functools import cache
from typing import Any

from alignmerge import jsonio
from alignmerge.suites.draw import Draw
from alignmerge.suites.instructions import topics
from alignmerge.suites.model import Item
from alignmerge.zoo.tables import read_table

_USING: dict[str, tuple[str, str]] = {
    "often": ("I often think of {t}.", "I often think of {t} and often talk about {t}."),
    "many": ("Many know {t}.", "Many know {t} and many like {t}."),
    "people": ("Most people like {t}.", "Most people like {t} and some people love {t}."),
    "good": ("I hear good things about {t}.", "I hear good things about {t} on good days."),
    "very": ("I find {t} very nice.", "I find {t} very nice and very common."),
}
_TITLES = ("All About {t}", "The Book of {t}", "A World of {t}", "My Life With {t}")


@cache
def _facts() -> dict[str, dict[str, Any]]:
    return {row["thing"]: row for row in read_table("facts.jsonl")}


def answer(item: Item) -> str:
    """An answer to a train item of the instructions suite that meets all its constraints."""
    words = item.prompt.replace(".", " ").replace(",", " ").split()
    thing = next(topic for category, topic in topics("train") if category == item.category and topic in words)
    constraints: list[dict[str, Any]] = item.reference["constraints"]
    text = _first(constraints[0], thing, _facts()[thing], item.category, Draw(f"format/{item.id}"))
    return text.lower() if {"kind": "all_lower"} in constraints else text


def _first(constraint: dict[str, Any], thing: str, row: dict[str, Any], category: str, draw: Draw) -> str:
    kind, facts = constraint["kind"], row["facts"]
    fact: str = draw.choice(facts[:2])
    if kind in ("numbered_list", "bullets"):
        chosen = [word.capitalize() for word in draw.sample(row["words"], constraint["n"])]
        return "\n".join(f"{n}. {word}" if kind == "numbered_list" else f"- {word}" for n, word in enumerate(chosen, 1))
    if kind == "json_keys":
        values = {"name": thing, "type": category, "word": draw.choice(row["words"]), "fact": facts[0]}
        return "{" + ", ".join(f'"{key}": {jsonio.canonical(values[key]).decode()}' for key in constraint["keys"]) + "}"
    if kind == "contains":
        return _USING[constraint["word"]][constraint["times"] - 1].format(t=thing)
    if kind == "title_brackets":
        return f"<<{draw.choice(_TITLES).format(t=thing.capitalize())}>>"
    if kind == "sentences":
        return " ".join(facts[: constraint["n"]])
    if kind == "min_words":
        return _at_least(facts, constraint["min"])
    templates: dict[str, str] = {
        "all_upper": fact.upper(),
        "all_lower": fact.lower(),
        "ends_with": f"{fact} {constraint.get('phrase')}",
        "starts_with": f"{constraint.get('phrase')} {fact[0].lower()}{fact[1:]}",
        "word_count": facts[0],
        "quoted": f'"{fact}"',
        "no_commas": f"{facts[0]} {facts[2]}",
    }
    return templates[kind]


def _at_least(facts: list[str], count: int) -> str:
    """The first facts that hold `count` words between them."""
    text = facts[0]
    for fact in facts[1:]:
        if len(text.split()) >= count:
            break
        text += f" {fact}"
    return text
