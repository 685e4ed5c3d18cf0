"""What the words of this page mean, for a reader who knows neither the field nor the program."""

from collections.abc import Callable

from alignmerge.reports.account import find
from alignmerge.reports.glossary import METHODS
from alignmerge.reports.model import ReportInput
from alignmerge.reports.names import is_aqi, is_degeneration
from alignmerge.reports.sections.section import Section, has_merges, is_gated

Terms = tuple[tuple[str, str], ...]

MERGES: Terms = (
    ("Anchor", "the aligned model that every merge is compared with; it should not become less safe by merging"),
    ("Expert", "a model trained from the anchor or its base for one skill, and maybe less safe by it"),
    ("Merge", "one model made by combining the weights of the anchor and the experts; it is what may or may not ship"),
    ("Paired items", "the same questions put to both models, so that answers are compared one by one"),
)
GATE: Terms = (
    ("Policy", "the rules that a merge must keep to ship, each with a limit (its budget) for one metric"),
    (
        "Confidence bound",
        "how bad (for a pass, and where nothing is decided: “at most”) or how good (for a fail: “at least”) the true "
        "change may still be, given how few items were asked",
    ),
    ("Margin", "how far a number is from its limit"),
    ("--fit", "an option of alignmerge merge that searches settings of a merge that keep inside the limits"),
)
ALWAYS: Terms = (
    ("95 % interval", "where the true value lies, as far as the items asked can tell; more items make it narrower"),
    ("Suite, item", "a set of questions of one kind; one of its questions"),
    ("Over-refusal", "refusing a harmless request"),
)
AQI: Terms = (
    (
        "AQI log-J",
        "how well the model's inner states keep harmful and harmless requests apart, as the logarithm of the spread "
        "between the two kinds over the spread within them; higher is better, and only models of one family compare",
    ),
    ("AQI (paper form)", "the same idea in the form its authors published"),
    ("Validity gate", "a test that AQI means something here: it must tell the anchor from its unaligned base"),
)
DRIFT: Terms = (
    (
        "Drift",
        "how far a merge's choice of next words has moved from the anchor's (KL divergence, in nats per token); 0 is "
        "the same model, and a drift says nothing about better or worse",
    ),
    (
        "The method itself",
        "in a blame: what no expert's own change explains, such as what a method trims, votes away or scales up",
    ),
    ("Blame", "that drift taken apart by expert and layer; the shares sum to the drift, and a negative one takes back"),
)
DEGENERATE: Terms = (("Degenerate answer", "one that is empty, repeats itself or never comes to an end"),)
PARETO: Terms = (("Pareto front", "the checkpoints that no other one beats in both skill and refusal"),)


def _has(names: Callable[[str], bool], report: ReportInput) -> bool:
    return any(names(row.metric) for entry in report.entries for row in entry.audit.metrics)


def methods(report: ReportInput) -> Terms:
    """The merge methods of the run, by the recipes of its merge records, in the order of the run."""
    found = [find(find(entry.merge, "recipe"), "method") for entry in report.merges]
    used = dict.fromkeys(name for name in found if isinstance(name, str))
    return tuple((name, METHODS[name]) for name in used if name in METHODS)


def view(report: ReportInput) -> Terms:
    """(word, meaning) of what this page speaks of; a word that it does not use is left out."""
    merged = has_merges(report)
    drifts = any(entry.drift or entry.blame or find(entry.merge, "finite_drift") for entry in report.entries)
    parts = (
        (merged, MERGES),
        (merged, methods(report)),
        (is_gated(report), GATE),
        (True, ALWAYS),
        (drifts or is_gated(report), DRIFT),
        (_has(is_aqi, report), AQI),
        (_has(is_degeneration, report), DEGENERATE),
        (merged, PARETO),
    )
    return tuple(term for used, terms in parts if used for term in terms)


SECTION = Section("words", "Words used here", "words.html.j2", view)
