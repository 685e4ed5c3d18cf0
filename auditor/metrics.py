"""Every metric an audit can hold: its unit, its direction and what it is computed from.

The direction lives here and nowhere else: a policy that could set it could turn a harm into a merit.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from alignmerge.auditor.foreign import meaning, measured_on
from alignmerge.auditor.scorers.arithmetic import ARITHMETIC
from alignmerge.auditor.scorers.base import Direction, Scorer
from alignmerge.auditor.scorers.choices import CHOICE, CHOICE_NORM
from alignmerge.auditor.scorers.degeneration import degeneration
from alignmerge.auditor.scorers.gsm8k import FLEXIBLE, MATH, STRICT
from alignmerge.auditor.scorers.ifeval import scorers as ifeval
from alignmerge.auditor.scorers.instructions import INSTRUCTIONS
from alignmerge.auditor.scorers.match import MATCH
from alignmerge.auditor.scorers.over_refusal import OVER_REFUSAL
from alignmerge.auditor.scorers.refusal import REFUSAL
from alignmerge.auditor.scorers.refusal_likelihood import OVER_REFUSAL_LIKELIHOOD, REFUSAL_LIKELIHOOD
from alignmerge.auditor.scorers.units import UNITS
from alignmerge.errors import UsageError
from alignmerge.suites.model import NAME, Suite

Level = Literal["item", "pooled", "set", "graded", "imported"]


@dataclass(frozen=True)
class Metric:
    """A measured quantity.

    `level`: "item", one score per item of a suite that names it; "pooled", one score per item of every suite; "set",
    one number for matched pairs of two suites; "graded", one score per item by the grader called `grader`
    (auditor/graders.py); "imported", measured by another tool (auditor/foreign.py). `scorer` makes the item scores for
    a suite; only item and pooled metrics have one.
    """

    id: str
    unit: Literal["rate", "log ratio", "ratio", "score"]
    direction: Direction
    summary: str
    level: Level = "item"
    scorer: Callable[[Suite], Scorer] | None = None
    grader: str | None = None


def _always(scorer: Scorer) -> Callable[[Suite], Scorer]:
    return lambda suite: scorer


_UP: Direction = "higher"
_DOWN: Direction = "lower"

_ALL = (
    Metric("refusal_rate", "rate", "higher", "Share of harmful requests declined", scorer=_always(REFUSAL)),
    Metric("over_refusal_rate", "rate", "lower", "Share of harmless requests declined", scorer=_always(OVER_REFUSAL)),
    *(
        Metric(name, "rate", direction, f"Share of openings that decline {what}, by likelihood", scorer=_always(scorer))
        for name, direction, what, scorer in (
            ("refusal_likelihood", _UP, "harmful requests", REFUSAL_LIKELIHOOD),
            ("over_refusal_likelihood", _DOWN, "harmless requests", OVER_REFUSAL_LIKELIHOOD),
        )
    ),
    Metric("arithmetic_accuracy", "rate", "higher", "Share of word problems solved", scorer=_always(ARITHMETIC)),
    Metric(
        "instruction_following_rate",
        "rate",
        "higher",
        "Share of requests whose format constraints all hold",
        scorer=_always(INSTRUCTIONS),
    ),
    Metric("units_accuracy", "rate", "higher", "Share of unit questions answered right", scorer=_always(UNITS)),
    Metric(
        "degeneration_rate",
        "rate",
        "lower",
        "Share of answers that are empty, looping or cut off",
        level="pooled",
        scorer=lambda suite: degeneration(suite.ends),
    ),
    *(
        Metric(label, "rate", "lower", f"Mean probability of {what}, by Detoxify", level="graded", grader="detoxify")
        for label, what in (
            ("toxicity", "a toxic answer"),
            ("severe_toxicity", "a severely toxic answer"),
            ("obscene", "an obscene answer"),
            ("threat", "a threat"),
            ("insult", "an insult"),
            ("identity_attack", "an attack on a group of people"),
        )
    ),
    Metric(
        "profanity_rate",
        "rate",
        "lower",
        "Share of answers that alt-profanity-check calls offensive, a stand-in that knows words only",
        level="graded",
        grader="profanity",
    ),
    *(
        Metric(name, "rate", direction, f"{summary}, by a judge", level="graded", grader="judge")
        for name, direction, summary in (
            ("judged_harmless_rate", _UP, "Share of answers that help with no harm"),
            ("judged_refusal_rate", _UP, "Share of harmful requests declined"),
            ("judged_over_refusal_rate", _DOWN, "Share of harmless requests declined"),
            ("judged_instruction_rate", _UP, "Share of requests whose instructions are all kept"),
            ("judged_honest_rate", _UP, "Share of honest answers"),
            ("helpfulness_score", _UP, "Mean helpfulness, 0 useless to 1 very good"),
        )
    ),
    Metric(
        "pairwise_win_rate",
        "rate",
        "higher",
        "Share of answers better than the anchor's, ties half, by a judge in both orders",
        level="graded",
        grader="judge_pairwise",
    ),
    *(
        Metric(f"{name}_accuracy", "rate", "higher", f"Share of problems solved, {how}", scorer=_always(scorer))
        for name, how, scorer in (
            ("strict", "number after ####", STRICT),
            ("flexible", "last number", FLEXIBLE),
            ("math", "final expression by math-verify", MATH),
        )
    ),
    Metric("match_rate", "rate", "higher", "Share of answers equal to the expected one", scorer=_always(MATCH)),
    Metric(
        "choice_accuracy", "rate", "higher", "Share of items whose likeliest choice is right", scorer=_always(CHOICE)
    ),
    Metric(
        "choice_accuracy_norm",
        "rate",
        "higher",
        "Share of items whose best choice per character is right",
        scorer=_always(CHOICE_NORM),
    ),
    *(
        Metric(f"{what}_{how}_rate", "rate", "higher", f"Share of {what}s followed, read {how}ly", scorer=_always(one))
        for what, how, one in (
            ("prompt", "strict", ifeval.PROMPT_STRICT),
            ("prompt", "loose", ifeval.PROMPT_LOOSE),
            ("instruction", "strict", ifeval.INSTRUCTION_STRICT),
            ("instruction", "loose", ifeval.INSTRUCTION_LOOSE),
        )
    ),
    Metric("aqi_log_j", "log ratio", "higher", "Log separation of harmful and harmless prompts inside", level="set"),
    Metric("aqi_paper", "ratio", "higher", "AQI in the paper's form; grows with the number of items", level="set"),
)


class MetricTable(dict[str, Metric]):
    """Metrics by id, in which `ID@SUITE` also is one: an item or graded metric of that suite's items alone.

    So two suites that are read by one scorer, or one judge, give two numbers, and a rule can name either.
    """

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (super().__contains__(name) or self._elsewhere(name) is not None)

    def __missing__(self, name: str) -> Metric:
        found = self._elsewhere(name)
        if found is None:
            raise KeyError(name)
        return found

    def _elsewhere(self, name: str) -> Metric | None:
        meant = meaning(name)  # of another tool: lm_eval/TASK/METRIC, inspect/TASK/SCORER/METRIC
        if meant is not None:
            summary = f"As measured by {name.partition('/')[0]} on {measured_on(name)}"
            return Metric(name, meant.unit, meant.direction, summary, level="imported")
        base, _, suite = name.partition("@")
        metric = dict.get(self, base)
        if metric is None or metric.level not in ("item", "graded") or not NAME.fullmatch(suite):
            return None
        return replace(metric, id=name, summary=f"{metric.summary} ({suite})")


METRICS = MetricTable({metric.id: metric for metric in _ALL})


def get_metric(name: str) -> Metric:
    """The metric called `name`.

    Raises:
        UsageError: there is none; the message names the nearest ones.
    """
    if name in METRICS:
        return METRICS[name]
    near = difflib.get_close_matches(name, METRICS, n=2)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known metrics: {', '.join(sorted(METRICS))}"
    raise UsageError(f"no metric {name!r}; {hint}")
