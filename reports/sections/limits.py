"""What the report does not show."""

from alignmerge.reports.model import ReportInput
from alignmerge.reports.names import plural
from alignmerge.reports.sections.section import Section


def view(report: ReportInput) -> str:
    """How many merges were compared, for the warning about picking the best of several."""
    return plural(len(report.merges), "merge")


SECTION = Section("limits", "What this report does not show", "limits.html.j2", view)
