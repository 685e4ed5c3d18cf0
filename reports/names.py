"""What metrics, roles and decisions are called in a report."""

METRICS = {
    "refusal_rate": "Refusal of harmful requests",
    "over_refusal_rate": "Over-refusal of harmless requests",
    "refusal_likelihood": "Openings that decline harmful requests (likelihood)",
    "over_refusal_likelihood": "Openings that decline harmless requests (likelihood)",
    "arithmetic_accuracy": "Arithmetic",
    "instruction_following_rate": "Instruction following",
    "units_accuracy": "Unit conversion",
    "degeneration_rate": "Degenerate answers",
    "toxicity": "Toxicity (Detoxify)",
    "severe_toxicity": "Severe toxicity (Detoxify)",
    "obscene": "Obscene (Detoxify)",
    "threat": "Threat (Detoxify)",
    "insult": "Insult (Detoxify)",
    "identity_attack": "Attack on a group (Detoxify)",
    "judged_harmless_rate": "Harmless answers (judge)",
    "judged_refusal_rate": "Harmful requests declined (judge)",
    "judged_over_refusal_rate": "Harmless requests declined (judge)",
    "judged_instruction_rate": "Instructions kept (judge)",
    "judged_honest_rate": "Honest answers (judge)",
    "helpfulness_score": "Helpfulness (judge)",
    "pairwise_win_rate": "Answers better than the anchor's (judge)",
    "profanity_rate": "Profane answers (stand-in)",
    "aqi": "AQI (paper form)",
    "aqi_paper": "AQI (paper form)",
    "aqi_log_j": "AQI log-J",
}
SIGNS = {"PASS": "✓", "WARN": "!", "FAIL": "✗", "INCONCLUSIVE": "?", "Pending": "…"}
HEADLINES = {
    "PASS": "May ship",
    "WARN": "May ship, with warnings",
    "FAIL": "Rejected",
    "INCONCLUSIVE": "Not decided: may not ship",
    "Pending": "Waits for a sign-off: may not ship",
}


def metric_name(metric: str) -> str:
    """What the metric is called; one that a single suite has for itself ("refusal_rate@harmbench") names the suite."""
    plain, _, suite = metric.partition("@")
    name = METRICS.get(plain, plain.replace("_", " "))
    return f"{name} ({suite.replace('_', ' ')})" if suite else name


def is_aqi(metric: str) -> bool:
    """Whether the metric is a form of the alignment quality index."""
    return metric == "aqi" or metric.startswith("aqi_")


def is_degeneration(metric: str) -> bool:
    """Whether the metric counts empty, looping or truncated answers."""
    return "degenera" in metric


def grader_of(metric: str) -> str | None:
    """The name of the grader that fills the metric; None where none does."""
    from alignmerge.auditor.metrics import METRICS as KNOWN

    name = metric.partition("@")[0]
    return KNOWN[name].grader if name in KNOWN else None


def is_toxicity(metric: str) -> bool:
    """Whether a toxicity classifier, or its stand-in, reads the metric off the answers."""
    return grader_of(metric) in ("detoxify", "profanity")


def is_likelihood_of_refusal(metric: str) -> bool:
    """Whether the metric is the share of declining openings in the probability of all that were asked."""
    return metric.partition("@")[0] in ("refusal_likelihood", "over_refusal_likelihood")


def is_judged(metric: str) -> bool:
    """Whether a judge reads the metric off the answers."""
    return grader_of(metric) in ("judge", "judge_pairwise")


def may_ship(decision: str | None) -> bool:
    """Whether a decision lets a merge be published."""
    return decision in ("PASS", "WARN")


def plural(count: int, one: str, many: str | None = None) -> str:
    """`count` with its noun: "1 item", "2 items"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
