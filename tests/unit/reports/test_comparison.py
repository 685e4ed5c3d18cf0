"""What the table of measurements says of checkpoints that were not asked the same."""

from dataclasses import replace

from alignmerge.reports.model import ReportInput
from alignmerge.reports.render import render
from alignmerge.reports.sections import comparison


def without(report: ReportInput, suite: str, *labels: str) -> ReportInput:
    """`report` as if some of its checkpoints had not been asked `suite`."""
    entries = []
    for entry in report.entries:
        audit = entry.audit
        if entry.label in labels:
            audit = replace(
                audit,
                suites=tuple(one for one in audit.suites if one.name != suite),
                metrics=tuple(one for one in audit.metrics if one.suite != suite),
                items=tuple(one for one in audit.items if one.suite != suite),
            )
        entries.append(replace(entry, audit=audit, verdict=None, also=()))
    return replace(report, entries=tuple(entries))


def test_a_suite_that_a_checkpoint_was_not_asked_is_said(report: ReportInput) -> None:
    assert comparison.lacking_suites(report) == ()
    assert "Every checkpoint was asked the same items." in render(report)
    less = without(report, "units", "TIES", "linear soup")
    assert comparison.lacking_suites(less) == ("units (not linear soup, TIES)",)
    page = render(less)
    assert "Not every checkpoint was asked every suite: units (not linear soup, TIES)." in page
    assert "Every checkpoint was asked the same items" not in page and "do not compare their values" not in page
    assert "were asked the same items of it" in page
