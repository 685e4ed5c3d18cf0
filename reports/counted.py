"""What metrics say of single answers: which a record holds item by item, in which words, and which way an item went."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alignmerge.auditor.record import AuditRecord, ItemScore
from alignmerge.reports.model import OVER_REFUSAL, REFUSAL
from alignmerge.reports.names import is_judged, is_likelihood_of_refusal, is_toxicity, metric_name
from alignmerge.reports.text import number

HALF = 0.5  # from which value on an answer counts as one of the kind that its metric looks for
# metric: what an answer is that counts 1, and one that counts 0
WORDS = {
    REFUSAL: ("refused", "answered"),
    OVER_REFUSAL: ("refused", "answered"),
    "judged_refusal_rate": ("declined", "answered"),
    "judged_over_refusal_rate": ("declined", "answered"),
    "judged_harmless_rate": ("harmless", "harmful"),
    "judged_instruction_rate": ("kept", "not kept"),
    "judged_honest_rate": ("honest", "not honest"),
    "degeneration_rate": ("degenerate", "whole"),
    "profanity_rate": ("offensive", "not offensive"),
}
HARMFUL = frozenset({REFUSAL, "refusal_likelihood", "judged_refusal_rate", "judged_harmless_rate"})


@dataclass(frozen=True)
class Remark:
    """What a judge said of an answer: its score and its reason, under the metric's name."""

    metric: str
    score: str
    text: str


Remarks = Mapping[tuple[str, str], tuple[Remark, ...]]


def plain(metric: str) -> str:
    """The metric without the suite that it may have for itself: "refusal_rate" of "refusal_rate@harmbench"."""
    return metric.partition("@")[0]


def family(metric: str, skills: Sequence[str]) -> int:
    """0 for refusals of harmful requests, 1 for those of harmless ones, 2 for skills, 3 for all else."""
    if plain(metric) in (REFUSAL, OVER_REFUSAL):
        return int(plain(metric) == OVER_REFUSAL)
    return 2 if metric in skills else 3


def item_metrics(audits: Sequence[AuditRecord], skills: Sequence[str]) -> tuple[str, ...]:
    """Every metric that some record holds item by item, by family; skills in their order, others in the records'."""
    known = dict.fromkeys(row.metric for audit in audits for row in audit.metrics)
    rows = sorted({metric for audit in audits for metric in audit.by_metric})
    held = [*(metric for metric in known if metric in rows), *(metric for metric in rows if metric not in known)]

    def place(metric: str) -> tuple[int, int]:
        return family(metric, skills), skills.index(metric) if metric in skills else 0

    return tuple(sorted(held, key=place))


def more_is_worse(audits: Sequence[AuditRecord], metric: str) -> bool:
    """Whether a higher value of `metric` is a worse one, as the records say."""
    found = (audit.result(metric) for audit in audits)
    return next((result.direction == "lower" for result in found if result is not None), plain(metric) == OVER_REFUSAL)


def said(metric: str, value: float) -> str:
    """What an item's value says of the answer: a word for yes or no, the number for anything else."""
    yes, no = WORDS.get(plain(metric), ("", "") if is_judged(metric) or _is_share(metric) else ("right", "wrong"))
    return {1.0: yes, 0.0: no}.get(value, "") or number(value, 2)


def level(metric: str, value: float) -> float:
    """What of a value is compared: all of it, or of a probability whether it is HALF or more."""
    return float(value >= HALF) if _is_share(metric) else value


def _is_share(metric: str) -> bool:
    return is_toxicity(metric) or is_likelihood_of_refusal(metric)


def titles(metric: str) -> tuple[str, str]:
    """What items are called that got worse from the anchor to the merge, and those that got better."""
    name, suite = metric_name(metric), metric.partition("@")[2].replace("_", " ")
    of = f" ({suite})" if suite else ""
    if plain(metric) == REFUSAL:
        return f"Refused by the anchor, answered by the merge{of}", f"Answered by the anchor, refused by the merge{of}"
    if plain(metric) == OVER_REFUSAL:
        return f"Harmless requests refused only by the merge{of}", f"Harmless requests refused only by the anchor{of}"
    if plain(metric) == "refusal_likelihood":  # the one of them that is better the higher it is
        return f"{name}: {HALF} or more only by the anchor", f"{name}: {HALF} or more only by the merge"
    if _is_share(metric):
        return f"{name}: {HALF} or more only by the merge", f"{name}: {HALF} or more only by the anchor"
    if is_judged(metric) or plain(metric) in WORDS:
        return f"{name}: worse than the anchor", f"{name}: better than the anchor"
    return f"{name}: lost", f"{name}: gained"


def harmful_suites(audit: AuditRecord) -> frozenset[str]:
    """The suites whose requests a safe model declines, by the metrics that were read off them."""
    harmful = HARMFUL - {"judged_harmless_rate"}  # which is read off harmless requests too
    return frozenset(row.suite for metric, rows in audit.by_metric.items() if plain(metric) in harmful for row in rows)


def is_harmful(row: ItemScore, suites: frozenset[str]) -> bool:
    """Whether the request or its answer may do harm to a reader who did not expect it."""
    return row.suite in suites or plain(row.metric) in HARMFUL or is_toxicity(row.metric)


def remarks(audit: AuditRecord) -> Remarks:
    """What judges said, by (suite, item); empty where no judge gave a reason."""
    found: dict[tuple[str, str], tuple[Remark, ...]] = {}
    for metric, rows in sorted(audit.by_metric.items()):
        if not is_judged(metric):
            continue
        for row in rows:
            if row.note:
                score = "unscored" if row.value is None else number(row.value, 2)
                key = (row.suite, row.item)
                found[key] = (*found.get(key, ()), Remark(metric_name(metric), score, row.note))
    return found
