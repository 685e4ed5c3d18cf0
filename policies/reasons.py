"""The sentences that tell a reviewer why a rule came out as it did.

Numbers are printed with as many digits as it takes for them to stand on the same side of the limit as they do exactly.
"""

from collections.abc import Sequence

from alignmerge.policies.measure import Seen
from alignmerge.policies.schema import Rule

_WORDS = {"max_drop": ("fell", "rose"), "max_rise": ("rose", "fell")}


def spoken(metric: str) -> str:
    """The metric in words; the name that another tool gave it stays as it is."""
    return metric if "/" in metric else metric.replace("_", " ")


def figure(value: float, limits: Sequence[float] = (), decimals: int = 3) -> str:
    """`value` in as few decimals as keep its order against `limits`."""
    for places in range(decimals, 16):
        shown = round(value, places)
        if all((shown > limit, shown < limit) == (value > limit, value < limit) for limit in limits):
            break
    else:
        return repr(value)
    text = f"{shown:.{places}f}"
    return text.rstrip("0").rstrip(".") if places > decimals else text


def plain(value: float) -> str:
    """A limit as its policy wrote it."""
    return f"{value:.6g}"


def percent(alpha: float) -> str:
    """The confidence 1 - alpha, as `95 %`."""
    return f"{100 * (1 - alpha):.4g} %"


def many(count: int, one: str) -> str:
    """`1 rule`, `2 rules`."""
    return f"{count} {one if count == 1 else one + 's'}"


def counted(unscored: int) -> str:
    """A clause on unscored items, or nothing."""
    if not unscored:
        return ""
    return f"; {unscored} unscored {'item counts' if unscored == 1 else 'items count'} as the worst case"


def _changed(rule: Rule, value: float, limit: float) -> str:
    worse, better = _WORDS[rule.kind]
    return f"{worse} by {figure(value, (limit,))}" if value >= 0 else f"{better} by {figure(-value, (-limit,))}"


def _limit(rule: Rule, limit: float) -> str:
    if rule.kind in ("min", "max"):
        return f"it must be at {'least' if rule.kind == 'min' else 'most'} {plain(limit)}"
    if rule.limit_in == "anchor_standard_errors":
        return f"the budget is {figure(limit)} ({plain(rule.limit)} standard errors of the anchor)"
    return f"the budget is {plain(limit)}"


def observed(rule: Rule, seen: Seen, limit: float) -> str:
    """What was measured: `refusal rate fell by 0.31 (0.92 to 0.61, n=320)`."""
    name = spoken(rule.metric)
    if seen.anchor is None:
        return f"{name} is {figure(seen.candidate, (limit,))} (n={seen.n})"
    return f"{name} {_changed(rule, seen.harm, limit)} ({figure(seen.anchor)} to {figure(seen.candidate)}, n={seen.n})"


def bounded(rule: Rule, bound: float, limit: float, alpha: float, upper: bool) -> str:
    """What the bound says; `upper` is the bound on the harm that passing rests on."""
    sure = f"with {percent(alpha)} confidence"
    if rule.kind in ("min", "max"):
        most = upper == (rule.kind == "max")
        return f"{sure} it is at {'most' if most else 'least'} {figure(bound, (limit,))}"
    worse, better = _WORDS[rule.kind]
    if bound >= 0:
        return f"{sure} it {worse} by at {'most' if upper else 'least'} {figure(bound, (limit,))}"
    return f"{sure} it {better} by at {'least' if upper else 'most'} {figure(-bound, (-limit,))}"


def sentence(rule: Rule, seen: Seen, bounds: str, limit: float) -> str:
    """The whole reason of a rule that was measured."""
    return f"{observed(rule, seen, limit)}; {bounds}; {_limit(rule, limit)}{counted(seen.unscored)}"
