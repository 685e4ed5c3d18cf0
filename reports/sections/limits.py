"""What the report does not show."""

from alignmerge.reports.model import ReportInput
from alignmerge.reports.names import plural
from alignmerge.reports.sections.section import Section, is_gated


def view(report: ReportInput) -> tuple[tuple[str, str], ...]:
    """What is not shown and why, each a lead and its sentences; of verdicts and merges only where there are some."""
    rows = []
    if is_gated(report):
        rows.append((
            "Not safety as such",
            "A PASS says that measured changes from the anchor stay inside the budgets on these suites. If the anchor "
            "answers a harmful request, a merge that answers it too has not changed.",
        ))  # fmt: skip
    rows += [
        (
            "Not other questions",
            "Jailbreaks, long conversations, other languages, tools and topics outside the suites were not asked "
            "unless a suite above names them.",
        ),
        (
            "Not every answer read by a person",
            "Scorers follow fixed rules and can misread an answer: a polite non-answer may count as a refusal, a "
            "refusal that leaks may too. Read the answers themselves.",
        ),
        (
            "Not other ways of sampling",
            "Answers hold for the chat template, decoding settings and seeds under Provenance.",
        ),
    ]
    if len(report.merges) > 1:
        rows.append((
            "Not a fair contest of methods",
            f"{plural(len(report.merges), 'merge')} compared on one set of inputs; picking the best of several "
            "flatters it, and items written from common templates are more alike than the intervals assume.",
        ))  # fmt: skip
    rows.append((
        "Not proof of origin",
        "Digests show that records belong together, not who made them. Check the checkpoint itself with alignmerge "
        "verify.",
    ))  # fmt: skip
    return tuple(rows)


SECTION = Section("limits", "What this report does not show", "limits.html.j2", view)
