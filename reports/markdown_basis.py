"""The parts of the Markdown report that say what its verdicts rest on: what measured, how it was decided, from what."""

from collections.abc import Iterator, Sequence

from alignmerge.reports.inert import bullets, inert, section, table
from alignmerge.reports.model import ReportInput
from alignmerge.reports.sections import aqi, decision, degeneration, judge, method, provenance, toxicity
from alignmerge.reports.sections.comparison import Column, Row
from alignmerge.reports.sections.section import has_merges
from alignmerge.reports.text import moment

HOLDS = {True: "✓ yes", False: "✗ no", None: "– not asked"}


def measured(columns: Sequence[Column], rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """A row per metric: its name, its number of items, then each checkpoint's value with what is said of it."""
    for index, column in enumerate(columns):
        cells = [row.cells[index] for row in rows]
        shown = []
        for cell in cells:
            notes = "; ".join(filter(None, (cell.n, cell.unscored)))
            interval = f" ({cell.interval})" if cell.interval else ""
            best = " ★ best" if cell.best else ""
            shown.append(cell.missing or f"{cell.value}{interval}{best}{f'; {notes}' if notes else ''}")
        yield f"{column.name}, {column.unit}, {column.direction}", column.n.removeprefix("n "), *shown


def aqi_lines(report: ReportInput) -> list[str]:
    """Each form of the index with its validity gate, then its categories and layer weights."""
    view = aqi.view(report)
    lines: list[str] = []
    for form in view.forms:
        rows = [(line.label, line.role, line.value, line.interval, line.error, line.gate_words) for line in form.lines]
        head = (f"{form.name}, {form.unit}, {form.direction}", "role", "value", "95 % interval", "standard error",
                "validity gate")  # fmt: skip
        lines += table(head if not form.gate else head[:5], rows if not form.gate else [row[:5] for row in rows], 2)
        lines += [f"Validity gate of {inert(form.name)}: {inert(form.gate)}.", ""] if form.gate else []
    rows = [(one.category, one.label, one.pairs, one.value, one.interval, one.chance) for one in view.categories]
    lines += table(("category", "checkpoint", "pairs", "log J", "95 % interval", "chance (99 %)"), rows, 2)
    weights = next(filter(None, (aqi.weights_of(entry.audit.aqi_reference) for entry in report.entries)), ())
    used = [f"layer {layer}: {weight:.3f}" for layer, weight in enumerate(weights, start=1) if weight]
    lines += [f"Layer weights, fitted on the anchor and frozen: {', '.join(used)}.", ""] if used else []
    return section(aqi.SECTION.title, lines)


def toxicity_lines(report: ReportInput) -> list[str]:
    """What the classifiers read, and which they are."""
    if not toxicity.shown(report):
        return []
    view = toxicity.view(report)
    lines = ["A stand-in that knows words only is among them.", ""] if view.stand_in else []
    lines += table(("metric", "n", *(row.label for row in view.rows)), measured(view.columns, view.rows))
    readers = [(one.name, one.version or "not recorded", one.digest, one.who) for one in view.readers]
    return section(toxicity.SECTION.title, lines, table(("classifier", "version", "digest", "checkpoints"), readers, 4))


def judge_lines(report: ReportInput) -> list[str]:
    """Each judge's exam, its metrics and what it was asked."""
    lines: list[str] = []
    for one in judge.view(report) if judge.shown(report) else ():
        lines += [f"### {inert(one.kind)}: {inert(one.model)} {one.sign} {one.outcome}", ""]
        lines += bullets([("", reason) for reason in one.exam.reasons])
        exam = [
            (line.name, line.value, line.interval, line.limit, HOLDS[line.holds], line.n) for line in one.exam.lines
        ]
        lines += table(("exam", "value", "95 % interval", "must be", "holds", "answers"), exam)
        lines += table(("metric", "n", *(row.label for row in one.rows)), measured(one.columns, one.rows))
        asked = [(row.label + (" (the judge itself)" if row.itself else ""), row.asked, row.scored, row.declined,
                  row.unanimous, row.flips) for row in one.asked]  # fmt: skip
        head = ("checkpoint", "asked", "with a verdict", "declined", "repeats all agree", "changed with the order")
        lines += table(head, asked)
        gold = f"; exam questions {one.exam.gold}" if one.exam.gold else ""
        repeats = f"; each question asked {one.exam.repeats} times" if one.exam.repeats else ""
        lines += [inert(f"Served as {one.reported}; digest {one.digest}{gold}{repeats}."), ""]
    return section(judge.SECTION.title, lines)


def degeneration_lines(report: ReportInput) -> list[str]:
    """How many answers were empty, looped or were cut off."""
    rows = [
        (one.label, one.metric, one.value, one.interval, f"{one.count:,} of {one.scored:,}", one.finishes)
        for one in degeneration.view(report)
    ]
    head = ("checkpoint", "metric", "value", "95 % interval", "answers", "how answers ended")
    return section(degeneration.SECTION.title, table(head, rows, 2))


def method_lines(report: ReportInput) -> list[str]:
    """The solver's trace by step and what the records state of drift."""
    if not has_merges(report):
        return []
    view = method.view(report)
    lines: list[str] = []
    for solve in view.solves:
        lines += [f"### {inert(solve.label)}", ""]
        lines += [f"Ended: {inert(solve.ended)}", ""] if solve.ended else []
        lines += table(solve.columns, solve.rows, 0)
    drifts = [(row.label, row.name, row.key, row.value) for row in view.drifts]
    return [
        *section(method.SECTION.title, lines),
        *section("Drift", table(("merge", "measure", "part", "value"), drifts, 3)),
    ]


def decision_lines(report: ReportInput) -> list[str]:
    """The statistics in words and the policy's rules."""
    view = decision.view(report)
    named = [("", f"Intervals named in the audits: {'; '.join(view.methods)}.")] if view.methods else []
    rules = [(one.rule, one.metric, "blocks" if one.severity == "block" else "warns", one.text, one.limit)
             for one in view.rules]  # fmt: skip
    head = (f"rule of {view.policy}", "metric", "when broken", "in words", "limit")
    return section(decision.SECTION.title, bullets([*view.statements, *named]), table(head, rows=rules, text_columns=4))


def provenance_lines(report: ReportInput) -> list[str]:
    """Checkpoints, suites and settings by digest; merge records are files of their own."""
    view = provenance.view(report)
    sources = [
        (one.label, one.role, one.name, one.checkpoint, one.audit,
         "; ".join(f"{name}: {digest}" for name, digest in one.policies) or "none", moment(one.created), str(one.seed))
        for one in view.sources
    ]  # fmt: skip
    head = ("checkpoint", "role", "name", "checkpoint digest", "audit digest", "policy digests", "audited", "seed")
    suites = [(one.name, one.version, one.split, one.digest, f"{one.items:,} of {one.of:,}") for one in view.suites]
    return section(
        provenance.SECTION.title,
        table(head, sources, 7),
        bullets([(one.label, "; ".join(one.notes)) for one in view.sources if one.notes]),
        table(("suite", "version", "split", "digest of the items", "items asked"), suites, 4),
        table(("setting", "value", "checkpoints"), [(one.key, one.value, one.who) for one in view.settings], 3),
        [f"What each merge was made of is in its merge.json: {inert(', '.join(one.label for one in view.merges))}.", ""]
        if view.merges
        else [],
    )
