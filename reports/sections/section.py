"""What a section of the report is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from alignmerge.reports.model import ReportInput


def _always(report: ReportInput) -> bool:
    return True


def has_merges(report: ReportInput) -> bool:
    """Whether a merge is spoken of, or a policy that was to decide on one; a report of one audit does neither."""
    return bool(report.merges) or report.policy_name != "none"


def is_gated(report: ReportInput) -> bool:
    """Whether a policy was asked; without one there are no rules to speak of."""
    return report.policy_name != "none" or any(entry.verdict or entry.also for entry in report.entries)


@dataclass(frozen=True)
class Section:
    """`view` turns the records into what `template` prints under the heading `title`; `id` is its anchor.

    A report for which `shown` is false leaves the section out: it would have nothing to speak of.
    """

    id: str
    title: str
    template: str
    view: Callable[[ReportInput], Any]
    shown: Callable[[ReportInput], bool] = _always
