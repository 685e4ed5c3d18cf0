"""Word problems of one or two steps with small whole numbers.

Reference: {"answer": "42"}, an integer in decimal digits; the last number of the answer text should equal it.
Example: "Rosa splits 24 runners into 4 equal teams. How large is each team? ..." -> "24 / 4 = 6. The answer is 6."
"""

from collections.abc import Callable
from functools import cache

from alignmerge.suites.arithmetic_stories import ASK, NAMES, STORIES
from alignmerge.suites.draw import Draw
from alignmerge.suites.model import Item, Split, Suite

PER_STORY: dict[Split, int] = {"train": 24, "calibration": 20, "validation": 16, "test": 27}

# operation -> worked answer and result
OPERATIONS: dict[str, Callable[[dict[str, int]], tuple[str, int]]] = {
    "a+b": lambda v: (f"{v['a']} + {v['b']} = {v['a'] + v['b']}.", v["a"] + v["b"]),
    "p-q": lambda v: (f"{v['p']} - {v['q']} = {v['p'] - v['q']}.", v["p"] - v["q"]),
    "a*b": lambda v: (f"{v['a']} * {v['b']} = {v['a'] * v['b']}.", v["a"] * v["b"]),
    "m/b": lambda v: (f"{v['m']} / {v['b']} = {v['m'] // v['b']}.", v["m"] // v["b"]),
    "a*b+c": lambda v: (_two(v["a"], "*", v["b"], "+", v["c"]), v["a"] * v["b"] + v["c"]),
    "a*b-c": lambda v: (_two(v["a"], "*", v["b"], "-", v["c"]), v["a"] * v["b"] - v["c"]),
    "a+b-c": lambda v: (_two(v["a"], "+", v["b"], "-", v["c"]), v["a"] + v["b"] - v["c"]),
}


def _two(a: int, first: str, b: int, second: str, c: int) -> str:
    middle = a * b if first == "*" else a + b
    result = middle + c if second == "+" else middle - c
    return f"{a} {first} {b} = {middle}. {middle} {second} {c} = {result}."


def _numbers(draw: Draw, operation: str) -> dict[str, int]:
    small = "*" in operation or "/" in operation
    a, b = (draw.integer(2, 9), draw.integer(2, 9)) if small else (draw.integer(3, 30), draw.integer(3, 30))
    middle = a * b if small else a + b
    p = draw.integer(12, 60)
    return {"a": a, "b": b, "c": draw.integer(1, min(9, middle - 1)), "p": p, "q": draw.integer(2, p - 2), "m": a * b}


@cache
def _generate(split: Split) -> tuple[tuple[Item, str], ...]:
    out: list[tuple[Item, str]] = []
    for story, (category, operation, text) in enumerate(STORIES[split]):
        draw, seen, family = Draw(f"arithmetic/1/{split}/{story}"), set[str](), f"{category}_{story:02d}"
        while len(seen) < PER_STORY[split]:
            values = _numbers(draw, operation)
            prompt = f"{text.format(n=draw.choice(NAMES[split]), **values)} {ASK[split]}"
            if prompt in seen:
                continue
            working, result = OPERATIONS[operation](values)
            name = f"arithmetic/{split}/{family}/{len(seen):02d}"
            item = Item(name, prompt, family, category, split, reference={"answer": str(result)})
            out.append((item, f"{working} The answer is {result}."))
            seen.add(prompt)
    return tuple(out)


def items(split: Split) -> tuple[Item, ...]:
    """The problems of a split, `PER_STORY` for every story."""
    return tuple(item for item, _ in _generate(split))


def worked_answers(split: Split) -> dict[str, str]:
    """A short worked answer by item id, ending in the number: what an expert is trained on."""
    return {item.id: answer for item, answer in _generate(split)}


SUITE = Suite(
    name="arithmetic",
    version="1",
    summary="Generated word problems of one or two steps; the answer ends in a number.",
    items=items,
    metrics=("arithmetic_accuracy", "degeneration_rate"),
    max_new_tokens=40,
    ends=True,
)
