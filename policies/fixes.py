"""The nearest fix of a rule that did not pass: how many more items, or how far over and who spent it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alignmerge.policies.reasons import figure
from alignmerge.policies.verdict import RuleResult

METHOD = "method"  # what a blame calls the part that no expert's change explains
_MOST = 0.5  # of the drift: from here on an expert spends most of it
_LAYERS = 0.6  # of an expert's share that a run of layers must hold to be named


@dataclass(frozen=True)
class Spender:
    """An expert's (or the method's own) share of a merge's drift in one layer; see `alignmerge blame`."""

    name: str
    layer: int | None
    share: float


def spenders(blame: Any) -> tuple[Spender, ...]:
    """The finite drift's cells in the JSON of `alignmerge blame --json`; empty where it is none."""
    finite = blame.get("finite") if isinstance(blame, Mapping) else None
    cells = finite.get("cells") if isinstance(finite, Mapping) else None
    if not isinstance(cells, Sequence):
        return ()
    rows = [cell for cell in cells if isinstance(cell, Mapping) and isinstance(cell.get("contributor"), str)]
    return tuple(
        Spender(row["contributor"], row["layer"] if isinstance(row.get("layer"), int) else None, float(row["share"]))
        for row in rows
        if isinstance(row.get("share"), int | float)
    )


@dataclass(frozen=True)
class Culprits:
    """The expert that spends most of a drift and what the method itself spends, as parts of the whole drift.

    expert is empty where no expert spends any; its part is that of all layers. layers: "layers 12-18", the shortest run
    that holds most of that part, or empty where it has no place.
    """

    expert: str
    part: float
    layers: str
    method: float


def culprits(cells: Sequence[Spender]) -> Culprits | None:
    """Who spends the drift that `cells` take apart; None where that is not known."""
    totals: dict[str, float] = {}
    for cell in cells:
        totals[cell.name] = totals.get(cell.name, 0.0) + cell.share
    whole = sum(totals.values())
    if not totals or whole <= 0:
        return None
    method = totals.pop(METHOD, 0.0)
    name = max(totals, key=lambda one: (totals[one], one), default="")
    if not name or totals[name] <= 0:
        return Culprits("", 0.0, "", method / whole)
    layers = _run_of_layers([cell for cell in cells if cell.name == name], totals[name])
    return Culprits(name, totals[name] / whole, layers, method / whole)


def blamed(cells: Sequence[Spender]) -> str:
    """Who spends most of the drift, the method before the experts where it spends more; empty if unknown.

    For example `mostly expert arithmetic (most of it in layers 12-18)`, or `37 % of the drift by the method itself,
    then 33 % by expert format`.
    """
    found = culprits(cells)
    if found is None:
        return ""
    first = found.method > found.part
    words = []
    if first:
        most = found.method >= _MOST
        words.append("mostly the method itself" if most else f"{found.method:.0%} of the drift by the method itself")
    if found.expert:
        of = "" if words and not words[0].startswith("mostly") else " of the drift"
        most = found.part >= _MOST and not first
        words.append(f"mostly expert {found.expert}" if most else f"{found.part:.0%}{of} by expert {found.expert}")
        words[-1] += f" (most of it in {found.layers})" if found.layers else ""
    return ", then ".join(words).replace("%", " %")


def _run_of_layers(cells: Sequence[Spender], total: float) -> str:
    """The shortest run of layers that holds enough of the share, where it is not nearly all layers."""
    by_layer: dict[int, float] = {}
    for cell in cells:
        if cell.layer is not None:
            by_layer[cell.layer] = by_layer.get(cell.layer, 0.0) + cell.share
    if not by_layer or total <= 0:
        return ""
    layers = sorted(by_layer)  # the shortest run begins and ends with one of these, however far apart they are
    first, last = layers[0], layers[-1]
    runs = []
    for at, low in enumerate(layers):
        held = 0.0
        for high in layers[at:]:
            held += by_layer[high]
            if held >= _LAYERS * total:
                runs.append((high - low, low, high))
                break
    if not runs or min(runs)[0] >= last - first:
        return ""
    _, low, high = min(runs)
    return f"layer {low}" if low == high else f"layers {low}-{high}"


def nearest_fix(rule: RuleResult, who: str = "") -> str:
    """What would bring the rule to pass, or to a decision, as the rest of a sentence about it; empty where it passed or
    nothing is known. who: `blamed`.
    """
    if rule.decision == "pending":
        return "waits for `alignmerge approve`"
    if rule.decision == "pass":
        return ""
    if rule.decision == "inconclusive" and rule.needs is not None and rule.needs > rule.n:
        more = rule.needs - rule.n
        return f"needs {more:,} more item{'' if more == 1 else 's'}"
    if rule.value is None:
        return ""
    over = rule.value - rule.limit
    if rule.decision in ("fail", "warn"):
        over = abs(over)  # the value of a `min` rule lies below its limit then
    elif rule.anchor is None or over <= 0:
        return ""
    named = f", {who}" if who and rule.anchor is not None else ""
    return f"is over by {figure(over)}{named}"
