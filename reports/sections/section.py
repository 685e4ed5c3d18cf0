"""What a section of the report is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from alignmerge.reports.model import ReportInput


@dataclass(frozen=True)
class Section:
    """`view` turns the records into what `template` prints under the heading `title`; `id` is its anchor."""

    id: str
    title: str
    template: str
    view: Callable[[ReportInput], Any]
